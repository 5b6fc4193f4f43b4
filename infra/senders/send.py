"""Sends one delivery by each library of this file to the gateway at `url`, signed with the keys of `keys`.

    python3 send.py '{"url": "http://127.0.0.1:8443", "keys": {"slack": "…", …}}'

Prints a JSON object: the status and the body that each was answered.
"""

import datetime
import json
import os
import sys
import time

import requests
from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error
from requests_oauthlib import OAuth2Session
from slack_sdk.signature import SignatureVerifier
from standardwebhooks.webhooks import Webhook
from wechatpy.enterprise.crypto import WeChatCrypto

# The gateway of the test speaks HTTP on a loopback address.
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"


def post(path: str, headers: dict, body: str) -> dict:
    """Posts to a path of the gateway."""
    answer = requests.post(URL + path, headers=headers, data=body.encode(), timeout=30)
    return {"status": answer.status_code, "body": answer.text}


def slack(key: str) -> dict:
    """An event."""
    body = json.dumps({"type": "event_callback", "event_id": "Ev1", "event": {"text": "发货"}}, ensure_ascii=False)
    timestamp = str(int(time.time()))
    signature = SignatureVerifier(key).generate_signature(timestamp=timestamp, body=body)
    return post("/slack", {"x-slack-request-timestamp": timestamp, "x-slack-signature": signature}, body)


def slack_handshake(key: str) -> dict:
    """The check of the address."""
    body = json.dumps({"type": "url_verification", "token": "x", "challenge": "3eZbrw1aBm2rZgRN"})
    timestamp = str(int(time.time()))
    signature = SignatureVerifier(key).generate_signature(timestamp=timestamp, body=body)
    return post("/slack", {"x-slack-request-timestamp": timestamp, "x-slack-signature": signature}, body)


def standardwebhooks(key: str) -> dict:
    """A message of Standard Webhooks."""
    body, sent = '{"type":"order.created","data":{"id":"1042"}}', datetime.datetime.now(datetime.timezone.utc)
    signature = Webhook(key).sign("msg_2", sent, body)
    headers = {"webhook-id": "msg_2", "webhook-timestamp": str(int(sent.timestamp())), "webhook-signature": signature}
    return post("/standard", headers, body)


def wechatpy(keys: dict) -> dict:
    """A message of WeCom, from the envelope that the library makes for replies."""
    message = "<xml><MsgType>event</MsgType><Event>click</Event><FromUserName>zhang</FromUserName></xml>"
    timestamp = str(int(time.time()))
    crypto = WeChatCrypto(keys["token"], keys["aes"], keys["corp"])
    envelope = crypto.encrypt_message(message, "87", timestamp)
    part = lambda name: envelope.split(f"<{name}><![CDATA[")[1].split("]]>")[0]  # noqa: E731
    query = requests.models.PreparedRequest._encode_params(
        {"msg_signature": part("MsgSignature"), "timestamp": timestamp, "nonce": "87"}
    )
    body = f"<xml><ToUserName>{keys['corp']}</ToUserName><Encrypt><![CDATA[{part('Encrypt')}]]></Encrypt></xml>"
    return post(f"/wecom?{query}", {"content-type": "text/xml"}, body)


def walmart(key: str) -> dict:
    """An OAuth client that asks our endpoint for a token and brings it, as Walmart does."""
    session = OAuth2Session(client=BackendApplicationClient(client_id="walmart us"))
    try:
        session.fetch_token(token_url=f"{URL}/walmart/token", client_id="walmart us", client_secret=key)
    except OAuth2Error as error:
        return {"status": error.status_code, "body": error.error}
    answer = session.post(f"{URL}/walmart", json={"source": {"eventId": "w-1"}}, timeout=30)
    return {"status": answer.status_code, "body": answer.text}


PLAN = json.loads(sys.argv[1])
URL, KEYS = PLAN["url"], PLAN["keys"]
SENDERS = [slack, slack_handshake, standardwebhooks, wechatpy, walmart]
print(json.dumps({sender.__name__: sender(KEYS[sender.__name__]) for sender in SENDERS}))
