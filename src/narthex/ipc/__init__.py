"""How our own processes speak to each other: calls over unix sockets, the start handshake, and the lifeline."""
