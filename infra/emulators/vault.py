#!/usr/bin/env python3
"""The secrets half of Azure Key Vault, kept in memory, over TLS, for tests.

Every host name is a vault of its own, made at its first request: a test that sends `anything.vault.azure.net` here is
alone in it. Speaks what the official clients speak: the 401 challenge, set, get (latest or by version), update,
list and versions in pages, delete, recover, purge. A secret that is expired or not yet valid is handed out like any
other, as the real service does it; one that is disabled is refused. Paths under /emulator are for tests alone:

    POST /emulator/fail?next=N&status=S[&code=E][&retry_after=T][&secret=NAME]
                                            the next N requests fail; next=0 ends it
    POST /emulator/forbid[?secret=NAME]     403 ForbiddenByRbac until /emulator/allow with the same name
    GET  /emulator/count[?secret=NAME]      {"count": N}: requests with a token that came in, refused ones too
    POST /emulator/reset                    an empty vault without faults

Without `secret` they are about the whole vault.

The token is not verified, but one that can be read must be meant for a vault and not be over. Standard library only.
"""

import argparse
import base64
import http.server
import json
import re
import ssl
import threading
import time
import urllib.parse
import uuid

from server import Server

TENANT = "11111111-1111-4111-8111-111111111111"
AUTHORITIES = {
    "vault.azure.cn": "https://login.partner.microsoftonline.cn",
    "vault.usgovcloudapi.net": "https://login.microsoftonline.us",
    "vault.azure.net": "https://login.microsoftonline.com",
}
PAGE_MAX = 25
DELETED_DAYS = 90
VALUE_BYTES_MAX = 25 * 1024
BODY_BYTES_MAX = 1024 * 1024


class Refusal(Exception):
    """An answer that is not 200, as the service words it."""

    def __init__(self, status, code, message, inner=None, headers=()):
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = {"error": {"code": code, "message": message}}
        if inner:
            self.body["error"]["innererror"] = {"code": inner}


class Vault:
    """The secrets of one vault: for each name its versions, oldest first."""

    def __init__(self):
        self.secrets = {}
        self.deleted = {}
        self.faults = {}
        self.forbidden = set()
        self.asked = []

    def versions(self, name):
        if name not in self.secrets:
            raise Refusal(
                404,
                "SecretNotFound",
                f"A secret with (name/id) {name} was not found in this key vault. If you recently deleted this secret "
                "you may be able to recover it using the correct recovery command.",
            )
        return self.secrets[name]

    def version(self, name, version):
        versions = self.versions(name)
        if not version:
            return versions[-1]
        for one in versions:
            if one["version"] == version:
                return one
        raise Refusal(
            404, "SecretNotFound", f"A secret with (name/id) {name}/{version} was not found in this key vault."
        )

    def gone(self, name):
        if name not in self.deleted:
            raise Refusal(404, "SecretNotFound", f"Deleted Secret not found: {name}")
        return self.deleted[name]


def change(secret, body):
    """Writes what a set or an update may write."""
    if "contentType" in body:
        secret["contentType"] = body["contentType"]
    if "tags" in body:
        secret["tags"] = body["tags"]
    given = body.get("attributes") or {}
    for name in ("enabled", "nbf", "exp"):
        if given.get(name) is not None:
            secret["attributes"][name] = given[name]
    secret["attributes"]["updated"] = int(time.time())


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    # The answer is written in two pieces; without this the second one waits for an acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self):
        self.serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def serve(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_BYTES_MAX:
            self.close_connection = True
            return self.answer(413, {"error": {"code": "RequestTooLarge", "message": "the body is too large"}})
        raw = self.rfile.read(length)
        url = urllib.parse.urlsplit(self.path)
        path = [urllib.parse.unquote(part) for part in url.path.strip("/").split("/")]
        query = dict(urllib.parse.parse_qsl(url.query))
        host = self.headers.get("Host", "localhost").lower()
        try:
            with self.server.lock:
                vaults = self.server.vaults
                name = host.split(":")[0]
                if path[0] == "emulator":
                    vault = vaults.setdefault(name, Vault())
                    result = self.control(vault, name, path[1:], query)
                else:
                    self.check_token(name)
                    vault = vaults.setdefault(name, Vault())
                    result = self.secrets(vault, host, path, query, raw)
            status, body = result
            self.answer(status, body)
        except Refusal as refusal:
            self.answer(refusal.status, refusal.body, refusal.headers)

    def answer(self, status, body, headers=()):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if body is not None:
            self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("x-ms-request-id", str(uuid.uuid4()))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def control(self, vault, host, path, query):
        secret = query.get("secret", "")
        match [self.command, *path]:
            case ["GET", "count"]:
                return 200, {"count": sum(1 for name in vault.asked if secret in ("", name))}
            case ["POST", "fail"]:
                vault.faults[secret] = {
                    "next": int(query.get("next", 1)),
                    "status": int(query.get("status", 429)),
                    "code": query.get("code", "Throttled"),
                    "retry_after": query.get("retry_after"),
                }
            case ["POST", "forbid"]:
                vault.forbidden.add(secret)
            case ["POST", "allow"]:
                vault.forbidden.discard(secret)
            case ["POST", "reset"]:
                self.server.vaults[host] = Vault()
            case _:
                raise Refusal(404, "NotFound", f"no such control: {self.path}")
        return 200, {"ok": True}

    def check_token(self, host):
        zone = next((zone for zone in AUTHORITIES if host.endswith("." + zone)), "vault.azure.net")
        resource = f"https://{zone}"
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        problem = None
        if scheme.lower() != "bearer" or not token.strip():
            problem = "AKV10000: Request is missing a Bearer or PoP token."
        else:
            try:
                claims = token.split(".")[1]
                claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
            except (IndexError, ValueError):
                claims = {}
            if claims.get("aud", resource).rstrip("/") not in [resource, "cfa8b339-82a2-471a-a3c9-0fc0be7a4093"]:
                problem = f"AKV10022: Invalid audience. Expected {resource}, found: {claims['aud']}."
            elif claims.get("exp", time.time() + 1) <= time.time():
                problem = "AKV10046: The token is expired."
        if problem:
            challenge = f'Bearer authorization="{AUTHORITIES[zone]}/{TENANT}", resource="{resource}"'
            raise Refusal(401, "Unauthorized", problem, headers=[("WWW-Authenticate", challenge)])

    def check_faults(self, vault, host, name, action):
        vault.asked.append(name)
        for who in (name, ""):
            fault = vault.faults.get(who)
            if fault and fault["next"] > 0:
                fault["next"] -= 1
                headers = [("Retry-After", fault["retry_after"])] if fault["retry_after"] else []
                message = "the test asked for this failure"
                if fault["status"] == 429:
                    message = "Request was not processed because too many requests were received."
                raise Refusal(fault["status"], fault["code"], message, headers=headers)
        if vault.forbidden & {name, ""}:
            # The line ends are the service's own, and have surprised a client.
            raise Refusal(
                403,
                "Forbidden",
                "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or "
                "role definitions were changed recently, please observe propagation time.\r\n"
                f"Action: 'Microsoft.KeyVault/vaults/secrets/{action}'\r\nAssignment: (not found)\r\n"
                "DenyAssignmentId: null\r\nDecisionReason: null \r\n"
                f"Vault: {host.split('.')[0]};location=westeurope\r\n",
                "ForbiddenByRbac",
            )

    def secrets(self, vault, host, path, query, raw):
        if "api-version" not in query:
            raise Refusal(400, "BadParameter", "api-version must be specified")
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            raise Refusal(400, "BadParameter", "the body is not JSON") from None
        host_name = host.split(":")[0]

        def check(name, action):
            if name and not re.fullmatch(r"[0-9a-zA-Z-]{1,127}", name):
                raise Refusal(400, "BadParameter", f"The request URI contains an invalid name: {name}")
            self.check_faults(vault, host_name, name, action)

        def item(name, one):
            shown = {"id": f"https://{host}/secrets/{name}/{one['version']}", "attributes": one["attributes"]}
            for field in ("contentType", "tags"):
                if one.get(field):
                    shown[field] = one[field]
            return shown

        def bundle(name, one):
            return {"value": one["value"], **item(name, one)}

        def page(route, items):
            size = min(int(query.get("maxresults", PAGE_MAX)), PAGE_MAX)
            start = int(query.get("$skiptoken", 0))
            after = start + size
            onward = urllib.parse.urlencode(
                {"api-version": query["api-version"], "$skiptoken": after, "maxresults": size}
            )
            return {
                "value": items[start:after],
                "nextLink": f"https://{host}/{route}?{onward}" if after < len(items) else None,
            }

        def unversioned(shown):
            return {**shown, "id": shown["id"].rsplit("/", 1)[0]}

        def deleted(name, gone):
            # The answer to a delete and the deleted secret itself carry no value.
            shown = {**item(name, gone["versions"][-1]), "recoveryId": f"https://{host}/deletedsecrets/{name}"}
            return {**shown, "deletedDate": gone["at"], "scheduledPurgeDate": gone["at"] + DELETED_DAYS * 86400}

        match [self.command, *path]:
            case ["GET", "secrets"]:
                check("", "readMetadata/action")
                names = sorted(vault.secrets)
                return 200, page("secrets", [unversioned(item(name, vault.secrets[name][-1])) for name in names])
            case ["GET", "secrets", name, "versions"]:
                check(name, "readMetadata/action")
                return 200, page(f"secrets/{name}/versions", [item(name, one) for one in vault.versions(name)])
            case ["GET", "secrets", name, *version] if len(version) < 2:
                check(name, "getSecret/action")
                one = vault.version(name, version[0] if version else None)
                if not one["attributes"]["enabled"]:
                    raise Refusal(
                        403, "Forbidden", "Operation get is not allowed on a disabled secret.", "SecretDisabled"
                    )
                return 200, bundle(name, one)
            case ["PUT", "secrets", name]:
                check(name, "setSecret/action")
                if not isinstance(body.get("value"), str):
                    raise Refusal(400, "BadParameter", "Property value is required")
                if len(body["value"].encode()) > VALUE_BYTES_MAX:
                    raise Refusal(400, "BadParameter", "The secret value is too long")
                if name in vault.deleted:
                    raise Refusal(
                        409,
                        "Conflict",
                        f"Secret {name} is currently in a deleted but recoverable state; its name cannot be reused.",
                        "ObjectIsDeletedButRecoverable",
                    )
                now = int(time.time())
                attributes = {"enabled": True, "created": now, "updated": now}
                attributes |= {"recoveryLevel": "Recoverable+Purgeable", "recoverableDays": DELETED_DAYS}
                one = {"version": uuid.uuid4().hex, "value": body["value"], "attributes": attributes}
                change(one, body)
                vault.secrets.setdefault(name, []).append(one)
                return 200, bundle(name, one)
            case ["PATCH", "secrets", name, *version] if len(version) < 2:
                check(name, "updateSecret/action")
                one = vault.version(name, version[0] if version else None)
                change(one, body)
                return 200, item(name, one)
            case ["DELETE", "secrets", name]:
                check(name, "delete")
                vault.versions(name)
                vault.deleted[name] = {"versions": vault.secrets.pop(name), "at": int(time.time())}
                return 200, deleted(name, vault.deleted[name])
            case ["GET", "deletedsecrets"]:
                check("", "readMetadata/action")
                names = sorted(vault.deleted)
                return 200, page("deletedsecrets", [unversioned(deleted(name, vault.deleted[name])) for name in names])
            case ["GET", "deletedsecrets", name]:
                check(name, "readMetadata/action")
                return 200, deleted(name, vault.gone(name))
            case ["POST", "deletedsecrets", name, "recover"]:
                check(name, "recover/action")
                vault.gone(name)
                vault.secrets[name] = vault.deleted.pop(name)["versions"]
                return 200, item(name, vault.secrets[name][-1])
            case ["DELETE", "deletedsecrets", name]:
                check(name, "purge/action")
                vault.gone(name)
                del vault.deleted[name]
                return 204, None
        raise Refusal(404, "NotFound", f"{self.command} {self.path} is not served by this emulator")

    def log_message(self, text, *args):
        host = self.headers.get("Host") if hasattr(self, "headers") else "-"
        print(self.log_date_time_string(), host, text % args, flush=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--cert", required=True)
    arguments.add_argument("--key", required=True)
    arguments.add_argument("--port-file", required=True, help="gets the port once the server listens")
    options = arguments.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.cert, options.key)
    server = Server(Handler)
    # The handshake is left to the first read, in the thread of the connection: a silent client stops no other.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.lock = threading.Lock()
    server.vaults = {}
    server.serve(options.port_file)


if __name__ == "__main__":
    main()
