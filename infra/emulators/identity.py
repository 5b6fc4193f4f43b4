#!/usr/bin/env python3
"""A managed-identity endpoint for tests, in the style of App Service (and of the instance metadata service).

    GET /metadata/identity/oauth2/token?api-version=2019-08-01&resource=R[&client_id=C]
        wants `X-IDENTITY-HEADER: the secret` or `Metadata: true`; answers a token, whose `expires_on` is a string.
        The same question gets the same token until half of its life is over, as the real service does it.
    GET /count[?client_id=C][&resource=R]                     {"count": N}: token requests so far, refused ones too
    POST /fail?next=N&status=S[&code=E][&retry_after=T][&client_id=C]   the next N requests fail; next=0 ends it
    POST /lifetime?seconds=S[&client_id=C]                    how long new tokens live; those given out are forgotten
    POST /reset                                               forget faults, lifetimes, tokens and counts

Without `client_id` a count and a fault are about all requests. A test that takes a client id of its own and names it
here is not disturbed by others that run at the same time. Tokens are JWTs without a true signature.
"""

import argparse
import base64
import http.server
import json
import threading
import time
import urllib.parse
import uuid

from server import Server

TENANT = "11111111-1111-4111-8111-111111111111"
SYSTEM_ASSIGNED = "22222222-2222-4222-8222-222222222222"
LIFETIME_SECONDS = 24 * 3600
ANYONE = ""


def jwt(resource, client_id, now, lifetime):
    """A token that is right in all but its signature."""

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {
        "aud": resource,
        "iss": f"https://sts.windows.net/{TENANT}/",
        "iat": now,
        # A minute of slack, so that no clock finds the token too young.
        "nbf": now - 60,
        "exp": now + lifetime,
        "appid": client_id,
        "idtyp": "app",
        "oid": str(uuid.uuid5(uuid.NAMESPACE_URL, client_id)),
        "tid": TENANT,
        "uti": uuid.uuid4().hex,
        "ver": "1.0",
    }
    return ".".join([part({"alg": "RS256", "kid": "test", "typ": "JWT"}), part(claims), "bm90LXNpZ25lZA"])


class Identity:
    """What the endpoint remembers. Every method holds the lock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.reset()

    def reset(self):
        with self.lock:
            self.asked = []
            self.faults = {}
            self.lifetimes = {}
            self.tokens = {}

    def count(self, client_id, resource):
        with self.lock:
            return sum(1 for c, r in self.asked if client_id in (ANYONE, c) and resource in (ANYONE, r))

    def fail(self, client_id, fault):
        with self.lock:
            self.faults[client_id] = fault

    def live(self, client_id, seconds):
        with self.lock:
            self.lifetimes[client_id] = seconds
            self.tokens = {k: v for k, v in self.tokens.items() if client_id not in (ANYONE, k[0])}

    def ask(self, client_id, resource):
        """Counts the request, then answers `(fault, None)` or `(None, (token, expires_on))`."""
        with self.lock:
            self.asked.append((client_id, resource))
            for who in (client_id, ANYONE):
                fault = self.faults.get(who)
                if fault and fault["next"] > 0:
                    fault["next"] -= 1
                    return fault, None
            now = int(time.time())
            lifetime = self.lifetimes.get(client_id, self.lifetimes.get(ANYONE, LIFETIME_SECONDS))
            token, expires = self.tokens.get((client_id, resource), (None, 0))
            if token is None or expires - now < lifetime / 2:
                token, expires = jwt(resource, client_id, now, lifetime), now + lifetime
                self.tokens[client_id, resource] = token, expires
            return None, (token, expires)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body, headers=()):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, code, description, headers=()):
        self.answer(status, {"error": code, "error_description": description}, headers)

    def question(self):
        url = urllib.parse.urlsplit(self.path)
        return url.path.rstrip("/"), dict(urllib.parse.parse_qsl(url.query))

    def do_GET(self):
        path, query = self.question()
        if path == "/metadata/identity/oauth2/token":
            self.token(query)
        elif path == "/count":
            count = self.server.identity.count(query.get("client_id", ANYONE), query.get("resource", ANYONE))
            self.answer(200, {"count": count})
        else:
            self.refuse(404, "not_found", path)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, query = self.question()
        who = query.get("client_id", ANYONE)
        if path == "/fail":
            fault = {
                "next": int(query.get("next", 1)),
                "status": int(query.get("status", 500)),
                "code": query.get("code", "told_to_fail"),
                "retry_after": query.get("retry_after"),
            }
            self.server.identity.fail(who, fault)
        elif path == "/lifetime":
            self.server.identity.live(who, int(query["seconds"]))
        elif path == "/reset":
            self.server.identity.reset()
        else:
            return self.refuse(404, "not_found", path)
        self.answer(200, {"ok": True})

    def token(self, query):
        secret = self.headers.get("X-IDENTITY-HEADER")
        imds = secret is None and (self.headers.get("Metadata") or "").lower() == "true"
        if not imds and secret != self.server.secret:
            return self.refuse(401, "unauthorized", "the identity header is missing or wrong")
        resource = query.get("resource", "").rstrip("/")
        if not resource or "api-version" not in query:
            return self.refuse(400, "invalid_request", "resource and api-version are required")
        client_id = query.get("client_id", SYSTEM_ASSIGNED)
        fault, given = self.server.identity.ask(client_id, resource)
        if fault:
            headers = [("Retry-After", fault["retry_after"])] if fault["retry_after"] else []
            return self.refuse(fault["status"], fault["code"], "the test asked for this failure", headers)
        token, expires = given
        body = {
            "access_token": token,
            "client_id": client_id,
            # Strings, as both real services send them; azure_identity refuses numbers.
            "expires_on": str(expires),
            "expires_in": str(expires - int(time.time())),
            "resource": resource,
            "token_type": "Bearer",
        }
        self.answer(200, body)

    def log_message(self, text, *args):
        print(self.log_date_time_string(), text % args, flush=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--secret", required=True)
    arguments.add_argument("--port-file", required=True, help="gets the port once the server listens")
    options = arguments.parse_args()
    server = Server(Handler)
    server.secret = options.secret
    server.identity = Identity()
    server.serve(options.port_file)


if __name__ == "__main__":
    main()
