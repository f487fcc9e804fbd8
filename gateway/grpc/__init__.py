"""The gRPC server: HTTP/2 connections, the calls on them, and the methods that answer."""
