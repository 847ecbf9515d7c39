#!/bin/sh
# Starts n8n with the arguments as its command, like the official image.
exec n8n "$@"
