"""A server that enlarges pictures: an HTTP API, a page, a queue that outlives the process."""
