// The vault with every secret and the TLS certificate. The gateway may read secrets and nothing else.

@description('Azure region.')
param location string

@description('Name that all resources carry.')
param name string

@description('Tags for every resource.')
param tags object

@description('Object id of the identity of the gateway.')
param gatewayPrincipalId string

@description('Object id of who fills the vault; empty to grant that elsewhere.')
param operatorPrincipalId string

@allowed(['Group', 'User', 'ServicePrincipal'])
@description('What the operator is in Entra ID.')
param operatorPrincipalType string

@description('Closes the public door of the vault altogether.')
param privateEndpoint bool

@description('Public addresses (CIDR) from which operators fill the vault, while the public door is open.')
param operatorIpRanges string[]

@description('Resource id of the virtual network.')
param virtualNetworkId string

@description('Resource id of the subnet for machines.')
param gatewaySubnetId string

@description('Resource id of the subnet for private endpoints.')
param privateEndpointSubnetId string

var keyVaultSecretsUserRoleId = '4633458b-17de-408a-874b-0445c86b69e6'
var keyVaultSecretsOfficerRoleId = 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
var keyVaultCertificatesOfficerRoleId = 'a4417e6f-fecd-4de8-b567-7b0420556985'

var operatorRoleIds = empty(operatorPrincipalId) ? [] : [keyVaultSecretsOfficerRoleId, keyVaultCertificatesOfficerRoleId]

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  name: take('kv-${name}-${uniqueString(resourceGroup().id)}', 24)
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    enablePurgeProtection: true
    softDeleteRetentionInDays: 90
    enabledForDeployment: false
    enabledForDiskEncryption: false
    enabledForTemplateDeployment: false
    publicNetworkAccess: privateEndpoint ? 'Disabled' : 'Enabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: 'Deny'
      ipRules: [for range in operatorIpRanges: { value: range }]
      virtualNetworkRules: privateEndpoint ? [] : [{ id: gatewaySubnetId }]
    }
  }
}

resource gatewayReadsSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, gatewayPrincipalId, keyVaultSecretsUserRoleId)
  properties: {
    principalId: gatewayPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsUserRoleId)
  }
}

resource operatorFillsVault 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for roleId in operatorRoleIds: {
    scope: vault
    name: guid(vault.id, operatorPrincipalId, roleId)
    properties: {
      principalId: operatorPrincipalId
      principalType: operatorPrincipalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleId)
    }
  }
]

module endpoint 'private-endpoint.bicep' = if (privateEndpoint) {
  name: 'key-vault-private-endpoint'
  params: {
    location: location
    name: name
    tags: tags
    virtualNetworkId: virtualNetworkId
    subnetId: privateEndpointSubnetId
    serviceId: vault.id
    groupId: 'vault'
    zoneName: 'privatelink${replace(environment().suffixes.keyvaultDns, '.vault.', '.vaultcore.')}'
  }
}

@description('Resource id of the vault.')
output id string = vault.id

@description('Name of the vault.')
output name string = vault.name

@description('Address of the vault, the vault_url of the settings.')
output uri string = vault.properties.vaultUri
