"""What the tests share: a real server, a client that checks what it is answered, and the checkers."""
