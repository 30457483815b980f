"""Small parts that know nothing of Claude, sockets or projects."""
