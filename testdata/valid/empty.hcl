# Nothing is served.
