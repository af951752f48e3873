"""Sockets, TLS, HTTP and WebSocket: two tasks for each connection, no rules of the product."""

import os

# Read by websockets when it is imported. Its own values allow one message of thousands of empty
# fragments and a megabyte of headers, which no client of ours sends.
os.environ.setdefault("WEBSOCKETS_MAX_FRAGMENTS", "64")
os.environ.setdefault("WEBSOCKETS_MAX_NUM_HEADERS", "64")
os.environ.setdefault("WEBSOCKETS_MAX_LINE_LENGTH", "4096")
