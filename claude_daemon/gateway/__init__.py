"""The doors: who may knock (guard), sockets, HTTP.  Nothing outside knows aiohttp.web or Socket.IO."""
