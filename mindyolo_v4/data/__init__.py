"""Files on disk to batches: records, readers, transforms, mosaic and the sample stream."""
