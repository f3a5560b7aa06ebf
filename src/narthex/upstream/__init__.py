"""The only code that talks to providers: an HTTP/1.1 client, its pools, TLS, clocks."""
