"""The service: pictures over HTTP -> predictions, and a page to try it."""
