"""Models behind OpenAI-compatible chat servers, asked over HTTP."""
