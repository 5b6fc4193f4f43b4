#!/usr/bin/env python3
"""Small jobs of emulators.sh that a shell does badly: a free port, an account SAS, one request over HTTP."""

import base64
import hashlib
import hmac
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

# The account that every Azurite has. Its key is published and protects nothing.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
SAS_DAYS = 30


def port():
    """A port of the loopback address that nobody listens on at this moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def sas():
    """An account SAS for everything in blob storage, as a query string."""
    day = 24 * 3600
    form = "%Y-%m-%dT%H:%M:%SZ"
    fields = {
        "sv": "2024-11-04",
        "ss": "b",
        "srt": "sco",
        "sp": "rwdxylacuptfi",
        "st": time.strftime(form, time.gmtime(time.time() - day)),
        "se": time.strftime(form, time.gmtime(time.time() + SAS_DAYS * day)),
        "spr": "https,http",
    }
    order = ["sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses"]
    text = "\n".join([ACCOUNT] + [fields.get(name, "") for name in order]) + "\n"
    signature = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    return urllib.parse.urlencode({**fields, "sig": base64.b64encode(signature).decode()})


def answers(url, ca=None):
    """Whether a server answers there, whatever its status is."""
    context = ssl.create_default_context(cafile=ca) if ca else None
    handlers = [urllib.request.ProxyHandler({})]
    if context:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        urllib.request.build_opener(*handlers).open(url, timeout=5).close()
    except urllib.error.HTTPError:
        pass
    except OSError as error:
        sys.exit(f"{url}: {error}")


if __name__ == "__main__":
    given = {"port": port, "sas": sas, "answers": answers}[sys.argv[1]](*sys.argv[2:])
    if given is not None:
        print(given)
