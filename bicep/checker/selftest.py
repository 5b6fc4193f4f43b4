"""Breaks copies of the templates, one mistake at a time, and sees that the checks report each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .problem import Problem


@dataclass
class Mistake:
    name: str
    file: str
    old: str
    new: str
    # Part of what must be said.
    said: str
    types: bool = False


MISTAKES = [
    Mistake("syntax", "modules/storage.bicep", "resource account", "resource = account", "not Bicep"),
    Mistake("unknown property", "modules/storage.bicep", "accessTier: 'Hot'", "accesTier: 'Hot'", "has no property `accesTier`", True),
    Mistake("unknown property of the SDK's types", "modules/logs.bicep", "dataFlows: [", "dataFlow: [", "has no property `dataFlow`", True),
    Mistake("unknown property behind a variable", "modules/network.bicep", "access: 'Allow'\n          protocol: 'Tcp'\n          sourceAddressPrefix: '168", "acces: 'Allow'\n          protocol: 'Tcp'\n          sourceAddressPrefix: '168", "has no property `acces`", True),
    Mistake("wrong enum", "modules/key-vault.bicep", "name: 'standard'", "name: 'cheap'", "cannot be `cheap`", True),
    Mistake("wrong kind of value", "modules/postgres.bicep", "backupRetentionDays: 14", "backupRetentionDays: '14'", "backupRetentionDays", True),
    Mistake("missing required property", "modules/load-balancer.bicep", "          protocol: 'Tcp'\n          port: 443", "          protocol: 'Tcp'", "lacks `port`", True),
    Mistake("read-only property", "modules/virtual-machine.bicep", "hardwareProfile: {", "provisioningState: 'Done'\n    hardwareProfile: {", "is set by Azure", True),
    Mistake("property read that does not exist", "modules/key-vault.bicep", "vault.properties.vaultUri", "vault.properties.vaultUrl", "`vault.properties.vaultUrl` does not exist", True),
    Mistake("property read of the SDK's types", "modules/postgres.bicep", "fullyQualifiedDomainName", "hostName", "does not exist", True),
    Mistake("unknown resource type", "modules/identity.bicep", "userAssignedIdentities@", "userAssignedIdentitys@", "is not a resource type", True),
    Mistake("old API version", "modules/key-vault.bicep", "vaults@2024-11-01", "vaults@2023-07-01", "the type data has", True),
    Mistake("preview API version", "modules/key-vault.bicep", "vaults@2024-11-01", "vaults@2024-12-01-preview", "take a stable one"),
    Mistake("unused parameter", "modules/identity.bicep", "@description('Tags", "@description('x')\nparam spare string\n\n@description('Tags", "param `spare` is used nowhere"),
    Mistake("unused variable", "modules/storage.bicep", "var containerNames", "var spare = 1\nvar containerNames", "var `spare` is used nowhere"),
    Mistake("undeclared symbol", "modules/identity.bicep", "output id string = identity.id", "output id string = identty.id", "`identty` is not declared"),
    Mistake("unknown function", "modules/storage.bicep", "uniqueString(", "uniqString(", "is no function"),
    Mistake("no description", "modules/public-ip.bicep", "@description('Azure region.')\n", "", "has no @description"),
    Mistake("missing module parameter", "main.bicep", "    dnsLabel: dnsLabel\n", "", "is not given `dnsLabel`"),
    Mistake("unknown module parameter", "main.bicep", "    dnsLabel: dnsLabel\n", "    dnsLabel: dnsLabel\n    dnsName: dnsLabel\n", "has no parameter `dnsName`"),
    Mistake("value of the wrong type", "main.bicep", "bastionSubnet: bastion == 'Standard'", "bastionSubnet: 'yes'", "is of type bool"),
    Mistake("value that is not allowed", "main.bicep", "'Standard' : 'Developer'", "'Standard' : 'Basic'", "cannot be `Basic`"),
    Mistake("missing module", "main.bicep", "'modules/logs.bicep'", "'modules/log.bicep'", "which does not exist"),
    Mistake("module that nobody calls", "modules/spare.bicep", "", "@description('x')\noutput x string = ''\n", "main.bicep does not lead to"),
    Mistake("unknown output", "main.bicep", "logs.outputs.workspaceId", "logs.outputs.workspace", "has no output `workspace`"),
    Mistake("output of a module that may be absent", "main.bicep", "postgres!.outputs.host", "postgres.outputs.host", "may not be there"),
    Mistake("loop inside an expression", "modules/alerts.bicep", "emailReceivers: [\n      for email in emails: {", "emailReceivers: empty(emails) ? [] : [\n      for email in emails: {", "cannot stand inside"),
    Mistake("unknown parameter in a parameter file", "small.bicepparam", "param vmSize", "param machineSize", "no parameter `machineSize`"),
    Mistake("required parameter not set", "ha.bicepparam", "param dnsLabel = readEnvironmentVariable('CLAWHOOK_DNS_LABEL')\n", "", "`dnsLabel` is not set"),
    Mistake("parameter out of bounds", "ha.bicepparam", "param instanceCount = 3", "param instanceCount = 1", "out of bounds"),
    Mistake("secret written down", "ha.bicepparam", "readEnvironmentVariable('CLAWHOOK_ALERT_KEY', '')", "'abc'", "is written down"),
    Mistake("wrong role id", "modules/key-vault.bicep", "4633458b-17de", "4633458b-17df", "not the id of a role"),
    Mistake("id of another role", "modules/storage.bicep", "ba92f5b4-2d11-453d-a403-e96b0029c9fe", "b86a8fe4-44ce-4948-aee5-eccb2c155cd7", "Key Vault Secrets Officer"),
    Mistake("too mighty a role for the gateway", "modules/key-vault.bicep", "name: guid(vault.id, gatewayPrincipalId, keyVaultSecretsUserRoleId)\n  properties: {\n    principalId: gatewayPrincipalId\n    principalType: 'ServicePrincipal'\n    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsUserRoleId)", "name: guid(vault.id, gatewayPrincipalId, keyVaultSecretsUserRoleId)\n  properties: {\n    principalId: gatewayPrincipalId\n    principalType: 'ServicePrincipal'\n    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsOfficerRoleId)", "the gateway needs only"),
    Mistake("role for the whole resource group", "modules/key-vault.bicep", "  scope: vault\n  name: guid(vault.id, gatewayPrincipalId", "  name: guid(vault.id, gatewayPrincipalId", "for the whole resource group"),
    Mistake("random role assignment name", "modules/key-vault.bicep", "name: guid(vault.id, gatewayPrincipalId, keyVaultSecretsUserRoleId)", "name: uniqueString(vault.id)", "not made by guid()"),
    Mistake("public blobs", "modules/storage.bicep", "allowBlobPublicAccess: false", "allowBlobPublicAccess: true", "allowBlobPublicAccess"),
    Mistake("shared keys", "modules/storage.bicep", "    allowSharedKeyAccess: false\n", "", "allowSharedKeyAccess"),
    Mistake("no purge protection in one case", "modules/key-vault.bicep", "enablePurgeProtection: true", "enablePurgeProtection: privateEndpoint ? true : false", "enablePurgeProtection"),
    Mistake("no encryption at host", "modules/scale-set.bicep", "encryptionAtHost: true", "encryptionAtHost: false", "encryptionAtHost"),
    Mistake("passwords on Linux", "modules/virtual-machine.bicep", "disablePasswordAuthentication: true", "disablePasswordAuthentication: false", "disablePasswordAuthentication"),
    Mistake("passwords in PostgreSQL", "modules/postgres.bicep", "passwordAuth: 'Disabled'", "passwordAuth: 'Enabled'", "passwordAuth"),
    Mistake("control door open to the Internet", "modules/network.bicep", "sourceAddressPrefix: 'VirtualNetwork'", "sourceAddressPrefix: 'Internet'", "something else than port 443"),
    Mistake("SSH open to the Internet", "modules/network.bicep", "destinationPortRange: '443'", "destinationPortRange: '22'", "something else than port 443"),
    Mistake("secret without @secure", "modules/alerts.bicep", "@secure()\n", "", "not @secure()"),
    Mistake("secret in an output", "main.bicep", "output vaultUri string = keyVault.outputs.uri", "output vaultUri string = alertWebhookKey", "shows the secure parameter"),
    Mistake("name of one cloud", "modules/storage.bicep", "${environment().suffixes.storage}", "core.windows.net", "one cloud only"),
    Mistake("placeholder without a value", "main.bicep", "    CLOUD: cloudNames[environment().name]\n", "", "`@@CLOUD@@`"),
    Mistake("value without a placeholder", "main.bicep", "    HOOKS_HOST: host\n", "    HOOKS_HOST: host\n    SPARE: host\n", "no placeholder `@@SPARE@@`"),
    Mistake("README of yesterday", "main.bicep", "param name string = 'clawhook'", "param name string = 'hooks'", "the table of parameters is not that"),
]


def run(folder: Path, problems: Callable[[Path], list[Problem]], with_types: bool) -> int:
    failed = skipped = 0
    with tempfile.TemporaryDirectory() as scratch:
        before = set(copy(folder, Path(scratch) / "whole", problems))
        if before:
            print("\n".join(map(str, sorted(before))))
            print("the templates themselves have problems: mend them first")
            return 1
        for number, mistake in enumerate(MISTAKES):
            if mistake.types and not with_types:
                skipped += 1
                continue
            found = copy(folder, Path(scratch) / str(number), problems, mistake)
            if any(mistake.said in str(problem) for problem in found):
                print(f"ok    {mistake.name}")
            else:
                failed += 1
                print(f"FAIL  {mistake.name}: expected `{mistake.said}`, found {[str(problem) for problem in found]}")
    print(f"{len(MISTAKES) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def copy(folder: Path, target: Path, problems: Callable[[Path], list[Problem]], mistake: Mistake | None = None) -> list[Problem]:
    shutil.copytree(folder, target / "bicep", ignore=shutil.ignore_patterns("checker", "__pycache__", ".types"))
    if (folder.parent / "infra" / "cloud-init.yaml").is_file():
        (target / "infra").mkdir()
        shutil.copy(folder.parent / "infra" / "cloud-init.yaml", target / "infra")
    if mistake is not None:
        file = target / "bicep" / mistake.file
        content = file.read_text(encoding="utf-8") if file.exists() else ""
        if mistake.old not in content:
            raise SystemExit(f"self-test `{mistake.name}`: {mistake.file} has no `{mistake.old}` any more; bring bicep/checker/selftest.py up to date")
        file.write_text(content.replace(mistake.old, mistake.new, 1), encoding="utf-8")
    return problems(target / "bicep")
