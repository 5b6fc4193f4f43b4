"""The HTTP server of the emulators: a thread for each connection, on a port that it tells when it listens."""

import http.server
import os


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)

    def serve(self, port_file):
        """Tells its port and answers until the process ends. The file is whole from the moment that it is there."""
        with open(port_file + ".new", "w", encoding="ascii") as file:
            file.write(str(self.server_address[1]))
        os.rename(port_file + ".new", port_file)
        self.serve_forever()
