"""The processes of one training: how they meet, what they exchange, and who notices that one is gone."""
