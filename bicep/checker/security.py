"""The defaults that must stay secure: one line of data for each, and the rules of the network."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .problem import Problem
from .syntax import Source, Templates, line, literal, text

# Type, path, the values it may have in every case, and why.
REQUIRED = [
    ("Microsoft.Storage/storageAccounts", "properties.allowSharedKeyAccess", [False], "keys cannot be tied to an identity"),
    ("Microsoft.Storage/storageAccounts", "properties.allowBlobPublicAccess", [False], "no blob is public"),
    ("Microsoft.Storage/storageAccounts", "properties.minimumTlsVersion", ["TLS1_2", "TLS1_3"], "older TLS is broken"),
    ("Microsoft.Storage/storageAccounts", "properties.supportsHttpsTrafficOnly", [True], "nothing goes in clear"),
    ("Microsoft.Storage/storageAccounts", "properties.allowCrossTenantReplication", [False], "data stays in the tenant"),
    ("Microsoft.Storage/storageAccounts", "properties.networkAcls.defaultAction", ["Deny"], "only known networks come in"),
    ("Microsoft.Storage/storageAccounts/blobServices", "properties.deleteRetentionPolicy.enabled", [True], "deleted blobs can be brought back"),
    ("Microsoft.Storage/storageAccounts/blobServices", "properties.containerDeleteRetentionPolicy.enabled", [True], "deleted containers can be brought back"),
    ("Microsoft.Storage/storageAccounts/blobServices/containers", "properties.publicAccess", ["None"], "no blob is public"),
    ("Microsoft.KeyVault/vaults", "properties.enablePurgeProtection", [True], "nobody can destroy secrets for good"),
    ("Microsoft.KeyVault/vaults", "properties.enableSoftDelete", [True], "deleted secrets can be brought back"),
    ("Microsoft.KeyVault/vaults", "properties.enableRbacAuthorization", [True], "rights are role assignments"),
    ("Microsoft.KeyVault/vaults", "properties.networkAcls.defaultAction", ["Deny"], "only known networks come in"),
    ("Microsoft.Compute/virtualMachines", "properties.securityProfile.encryptionAtHost", [True], "disks and caches are encrypted on the host"),
    ("Microsoft.Compute/virtualMachines", "properties.securityProfile.securityType", ["TrustedLaunch"], "the boot chain is measured"),
    ("Microsoft.Compute/virtualMachines", "properties.securityProfile.uefiSettings.secureBootEnabled", [True], "only signed code boots"),
    ("Microsoft.Compute/virtualMachines", "properties.securityProfile.uefiSettings.vTpmEnabled", [True], "the boot chain is measured"),
    ("Microsoft.Compute/virtualMachines", "properties.osProfile.linuxConfiguration.disablePasswordAuthentication", [True], "sign-in is by key"),
    ("Microsoft.Compute/virtualMachineScaleSets", "properties.virtualMachineProfile.securityProfile.encryptionAtHost", [True], "disks and caches are encrypted on the host"),
    ("Microsoft.Compute/virtualMachineScaleSets", "properties.virtualMachineProfile.securityProfile.securityType", ["TrustedLaunch"], "the boot chain is measured"),
    ("Microsoft.Compute/virtualMachineScaleSets", "properties.virtualMachineProfile.securityProfile.uefiSettings.secureBootEnabled", [True], "only signed code boots"),
    ("Microsoft.Compute/virtualMachineScaleSets", "properties.virtualMachineProfile.securityProfile.uefiSettings.vTpmEnabled", [True], "the boot chain is measured"),
    ("Microsoft.Compute/virtualMachineScaleSets", "properties.virtualMachineProfile.osProfile.linuxConfiguration.disablePasswordAuthentication", [True], "sign-in is by key"),
    ("Microsoft.Compute/disks", "properties.networkAccessPolicy", ["DenyAll", "AllowPrivate"], "nobody downloads the disk"),
    ("Microsoft.Compute/disks", "properties.publicNetworkAccess", ["Disabled"], "nobody downloads the disk"),
    ("Microsoft.DBforPostgreSQL/flexibleServers", "properties.authConfig.passwordAuth", ["Disabled"], "sign-in is by Entra ID"),
    ("Microsoft.DBforPostgreSQL/flexibleServers", "properties.authConfig.activeDirectoryAuth", ["Enabled"], "sign-in is by Entra ID"),
    ("Microsoft.DBforPostgreSQL/flexibleServers", "properties.network.publicNetworkAccess", ["Disabled"], "the database is for the virtual network only"),
    ("Microsoft.OperationalInsights/workspaces", "properties.features.disableLocalAuth", [True], "keys cannot be tied to an identity"),
]

FORBIDDEN = [
    ("Microsoft.Compute/virtualMachines", "properties.osProfile.adminPassword"),
    ("Microsoft.Compute/virtualMachineScaleSets", "properties.virtualMachineProfile.osProfile.adminPassword"),
    ("Microsoft.DBforPostgreSQL/flexibleServers", "properties.administratorLoginPassword"),
    ("Microsoft.KeyVault/vaults", "properties.accessPolicies"),
]

# Where inbound traffic may come from on other ports than 443.
INSIDE = {"VirtualNetwork", "AzureLoadBalancer", "168.63.129.16/32"}

SECRET_NAME = re.compile(r"(password|secret|token|key|uri)$", re.I)
NOT_SECRET = re.compile(r"(public|ssh|vault)", re.I)

SUFFIXES = re.compile(
    r"(core\.(windows|chinacloudapi|usgovcloudapi)|vault\.(azure|usgovcloudapi)|management\.(azure|core)|login\.microsoftonline|login\.chinacloudapi|database\.windows|documents\.azure)"
)


def check(templates: Templates) -> Iterator[Problem]:
    for source, resource, kind, _ in templates.resources():
        for wanted, path, values, why in REQUIRED:
            if kind == wanted:
                yield from required(source, resource, path, values, why)
        for wanted, path in FORBIDDEN:
            if kind == wanted:
                for node in source.at(resource.body, path):
                    yield Problem(source.path, line(node), f"`{path}` of `{resource.name}` is set", "leave it out: identities and keys take its place")
        if kind == "Microsoft.Network/networkSecurityGroups":
            yield from inbound(source, resource)
    for source in templates.bicep:
        yield from secrets(source)
        for number, content in enumerate(source.file.read_text(encoding="utf-8").splitlines(), 1):
            found = SUFFIXES.search(content)
            if found:
                yield Problem(source.path, number, f"`{found.group()}` is the name of one cloud only", "take the suffix from environment()")


def required(source: Source, resource, path: str, values: list, why: str) -> Iterator[Problem]:
    found = list(source.at(resource.body, path))
    shown = " or ".join(f"`{str(value).lower() if isinstance(value, bool) else value}`" for value in values)
    if not found:
        yield Problem(source.path, resource.line, f"`{resource.name}` does not set `{path}`", f"set it to {shown}: {why}")
    for node in found:
        value = literal(node)
        if not any(value is wanted if isinstance(wanted, bool) else value == wanted for wanted in values):
            yield Problem(source.path, line(node), f"`{path}` of `{resource.name}` is `{text(node)}`", f"set it to {shown}: {why}")


def inbound(source: Source, resource) -> Iterator[Problem]:
    for rule in source.at(resource.body, "properties.securityRules[]"):
        properties = {name: value for name, (_, value) in source.properties(rule).items()}
        settings = source.properties(properties.get("properties"))
        values = {name: literal(value) for name, (_, value) in settings.items()}
        name = literal(properties.get("name"))
        if values.get("direction") != "Inbound" or values.get("access") == "Deny":
            continue
        if values.get("access") != "Allow":
            yield Problem(source.path, line(rule), f"whether rule `{name}` allows or denies is computed", "write it as a literal")
        if values.get("sourceAddressPrefix") in INSIDE:
            continue
        if values.get("destinationPortRange") != "443" or "destinationPortRanges" in settings:
            yield Problem(
                source.path,
                line(rule),
                f"rule `{name}` lets the outside reach something else than port 443",
                "open only 443 to the Internet; reach the control door through the virtual network or Bastion",
            )


def secrets(source: Source) -> Iterator[Problem]:
    for name, param in source.of("param").items():
        if param.target == "string" and SECRET_NAME.search(name) and not NOT_SECRET.search(name) and "secure" not in param.decorators:
            yield Problem(source.path, param.line, f"parameter `{name}` may hold a secret and is not @secure()", "add @secure(), or rename it")
        if "secure" not in param.decorators:
            continue
        if literal(param.value):
            yield Problem(source.path, param.line, f"secure parameter `{name}` has a default", "leave it empty: a default is readable by everyone")
        for output in source.of("output").values():
            if re.search(rf"\b{name}\b", text(output.value)):
                yield Problem(source.path, output.line, f"output `{output.name}` shows the secure parameter `{name}`", "outputs are kept in clear by the deployment: leave it out")
