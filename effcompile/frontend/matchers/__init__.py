"""What exporters leave in pieces, put together again: one matcher per operator."""
