#!/usr/bin/env python3
"""Holds the emulators against Microsoft's own Python clients: `infra/emulators.sh check` runs it.

What is checked is what the tests of the gateway lean on. The host names are real; only their addresses are not.
"""

import base64
import datetime
import json
import os
import re
import socket
import ssl
import sys
import time
import traceback
import urllib.error
import urllib.request

from azure.core.exceptions import HttpResponseError
from azure.identity import ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient
from azure.storage.blob import BlobServiceClient


def given(name):
    return os.environ[f"CLAWHOOK_TEST_{name}"]


VAULT = "https://kv1.vault.azure.net"
CLIENT = "33333333-3333-4333-8333-333333333333"
SECOND_CLIENT = "44444444-4444-4444-8444-444444444444"
IF_NONE_MATCH = {"headers": {"If-None-Match": "*"}}

os.environ["IDENTITY_ENDPOINT"] = given("IDENTITY_ENDPOINT")
os.environ["IDENTITY_HEADER"] = given("IDENTITY_HEADER")
os.environ["REQUESTS_CA_BUNDLE"] = given("CA")
TRUST = ssl.create_default_context(cafile=given("CA"))
CREDENTIAL = ManagedIdentityCredential(client_id=CLIENT)

resolve = socket.getaddrinfo


def resolve_here(host, port, *rest, **named):
    """What `azure.dns_overrides` is to the gateway."""
    name = host.decode() if isinstance(host, bytes) else host
    for suffix, address in ((".vault.azure.net", "VAULT_ADDRESS"), (".blob.core.windows.net", "AZURITE_ADDRESS")):
        if name and name.endswith(suffix):
            host, _, port = given(address).partition(":")
    return resolve(host, port, *rest, **named)


socket.getaddrinfo = resolve_here


def call(url, method="GET", headers=None):
    request = urllib.request.Request(url, method=method, headers=headers or {})
    with urllib.request.urlopen(request, context=TRUST if url.startswith("https") else None, timeout=10) as answer:
        return json.load(answer)


def refused(status, code, act):
    """The request must be refused with this status, and the body must say this code somewhere."""
    try:
        act()
    except HttpResponseError as error:
        assert error.status_code == status, f"expected {status}, got {error.status_code}: {error}"
        assert code in f"{error.message}{getattr(error, 'error_code', '')}{error.response.text()}", f"{error}"
        return
    raise AssertionError(f"expected {status} {code}, but it was done")


def name(prefix):
    return f"{prefix}{time.time_ns()}"


def append_blob(service):
    container = service.get_container_client(name("runs"))
    container.create_container()
    blob = container.get_blob_client("2026/a run?.log")
    blob.create_append_blob(**IF_NONE_MATCH)
    refused(409, "BlobAlreadyExists", lambda: blob.create_append_blob(**IF_NONE_MATCH))
    blob.append_block(b"one\n", appendpos_condition=0)
    refused(412, "AppendPositionConditionNotMet", lambda: blob.append_block(b"two\n", appendpos_condition=0))
    lease = blob.acquire_lease(15)
    refused(412, "LeaseIdMissing", lambda: blob.append_block(b"two\n"))
    blob.append_block(b"two\n", lease=lease)
    lease.release()
    assert blob.download_blob().readall() == b"one\ntwo\n"
    assert [one.name for one in container.list_blobs(name_starts_with="2026/")] == ["2026/a run?.log"]
    container.delete_container()


def blob_with_a_token_by_path():
    append_blob(BlobServiceClient(given("AZURITE_URL"), credential=CREDENTIAL))


def blob_with_a_token_by_host():
    append_blob(BlobServiceClient(given("AZURITE_HOST_URL"), credential=CREDENTIAL))


def blob_with_a_sas():
    for url in (given("AZURITE_HTTP_URL"), given("AZURITE_URL")):
        append_blob(BlobServiceClient(f"{url}?{given('AZURITE_SAS')}"))


def blob_without_a_right_sas():
    forged = re.sub("sig=.", "sig=", given("AZURITE_SAS"))
    service = BlobServiceClient(f"{given('AZURITE_HTTP_URL')}?{forged}")
    refused(403, "Auth", lambda: service.create_container(name("no")))


def secret_versions():
    vault, key = SecretClient(VAULT, CREDENTIAL), name("key")
    refused(404, "SecretNotFound", lambda: vault.get_secret(key))
    one = vault.set_secret(key, "one", content_type="text/plain", tags={"a": "b"})
    two = vault.set_secret(key, "two")
    assert one.id == f"{VAULT}/secrets/{key}/{one.properties.version}"
    assert vault.get_secret(key).value == "two"
    back = vault.get_secret(key, one.properties.version)
    assert (back.value, back.properties.content_type, back.properties.tags) == ("one", "text/plain", {"a": "b"})
    refused(404, "SecretNotFound", lambda: vault.get_secret(key, "0" * 32))
    versions = {each.version for each in vault.list_properties_of_secret_versions(key)}
    assert versions == {one.properties.version, two.properties.version}


def secret_states():
    vault, key = SecretClient(VAULT, CREDENTIAL), name("key")
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    future = datetime.datetime(2099, 1, 1, tzinfo=datetime.timezone.utc)
    vault.set_secret(key, "over", expires_on=past)
    assert (vault.get_secret(key).value, vault.get_secret(key).properties.expires_on) == ("over", past)
    vault.set_secret(key, "early", not_before=future)
    assert (vault.get_secret(key).value, vault.get_secret(key).properties.not_before) == ("early", future)
    vault.update_secret_properties(key, enabled=False)
    refused(403, "SecretDisabled", lambda: vault.get_secret(key))
    vault.update_secret_properties(key, enabled=True)
    assert vault.get_secret(key).value == "early"


def secret_deleted():
    vault, key = SecretClient(VAULT, CREDENTIAL), name("key")
    vault.set_secret(key, "value")
    vault.begin_delete_secret(key).wait()
    refused(404, "SecretNotFound", lambda: vault.get_secret(key))
    refused(409, "ObjectIsDeletedButRecoverable", lambda: vault.set_secret(key, "again"))
    assert key in [each.name for each in vault.list_deleted_secrets()]
    vault.begin_recover_deleted_secret(key).wait()
    assert vault.get_secret(key).value == "value"
    vault.begin_delete_secret(key).wait()
    vault.purge_deleted_secret(key)
    refused(404, "SecretNotFound", lambda: vault.get_deleted_secret(key))


def secret_pages_and_vaults_apart():
    vault = SecretClient(f"https://{name('kv')}.vault.azure.net", CREDENTIAL)
    names = {f"key-{number}" for number in range(60)}
    for one in names:
        vault.set_secret(one, "value")
    assert {each.name for each in vault.list_properties_of_secrets()} == names
    assert {each.name for each in vault.list_properties_of_secrets(max_page_size=7)} == names
    refused(404, "SecretNotFound", lambda: SecretClient(VAULT, CREDENTIAL).get_secret("key-1"))


def secret_forbidden_and_throttled():
    base = f"https://{name('kv')}.vault.azure.net"
    vault, control = SecretClient(base, CREDENTIAL), f"{base}/emulator"
    vault.set_secret("a", "value")
    call(f"{control}/forbid?secret=a", "POST")
    refused(403, "ForbiddenByRbac", lambda: vault.get_secret("a"))
    call(f"{control}/allow?secret=a", "POST")
    call(f"{control}/fail?next=1&status=429&retry_after=1&secret=a", "POST")
    began = time.monotonic()
    assert vault.get_secret("a").value == "value"
    assert time.monotonic() - began >= 1, "Retry-After was not heeded"
    # The set, the refusal, the 429 and its repetition.
    assert call(f"{control}/count?secret=a") == {"count": 4}


def vault_challenges():
    stranger = CREDENTIAL.get_token("https://storage.azure.com/.default").token
    for headers in ({}, {"Authorization": f"Bearer {stranger}"}):
        try:
            call(f"{VAULT}/secrets/a/?api-version=2025-07-01", headers=headers)
        except urllib.error.HTTPError as error:
            assert error.code == 401
            assert 'resource="https://vault.azure.net"' in error.headers["WWW-Authenticate"]
        else:
            raise AssertionError("it was let in")


def identity_tokens():
    question = (
        f"{given('IDENTITY_ENDPOINT')}?api-version=2019-08-01&resource=https://vault.azure.net&client_id={CLIENT}"
    )
    answer = call(question, headers={"X-IDENTITY-HEADER": given("IDENTITY_HEADER")})
    assert isinstance(answer["expires_on"], str)
    claims = answer["access_token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert claims["aud"] == "https://vault.azure.net"
    assert str(claims["exp"]) == answer["expires_on"]


def identity_counts_and_fails():
    control = given("IDENTITY_URL")
    call(f"{control}/fail?next=1&status=429&retry_after=1&client_id={SECOND_CLIENT}", "POST")
    credential = ManagedIdentityCredential(client_id=SECOND_CLIENT)
    assert credential.get_token("https://vault.azure.net/.default").token
    assert call(f"{control}/count?client_id={SECOND_CLIENT}") == {"count": 2}


CHECKS = [
    blob_with_a_token_by_path,
    blob_with_a_token_by_host,
    blob_with_a_sas,
    blob_without_a_right_sas,
    secret_versions,
    secret_states,
    secret_deleted,
    secret_pages_and_vaults_apart,
    secret_forbidden_and_throttled,
    vault_challenges,
    identity_tokens,
    identity_counts_and_fails,
]


def main():
    failed = 0
    for check in CHECKS:
        try:
            check()
            print(f"ok      {check.__name__}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {check.__name__}\n{traceback.format_exc()}", flush=True)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
