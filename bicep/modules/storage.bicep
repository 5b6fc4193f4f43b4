// Blob storage: the store of the azure-blob backend, the exported records of every backend, and files for people.

@description('Azure region.')
param location string

@description('Name that all resources carry.')
param name string

@description('Tags for every resource.')
param tags object

@description('Keeps copies in several availability zones.')
param zoneRedundant bool

@description('Object id of the identity of the gateway.')
param gatewayPrincipalId string

@minValue(1)
@maxValue(3650)
@description('Days after which exported records are deleted.')
param recordsRetentionDays int

@minValue(1)
@maxValue(365)
@description('Days for which deleted blobs and containers can be brought back.')
param softDeleteDays int

@description('Closes the public door of the account altogether.')
param privateEndpoint bool

@description('Public addresses (CIDR) from which operators read blobs, while the public door is open.')
param operatorIpRanges string[]

@description('Resource id of the virtual network.')
param virtualNetworkId string

@description('Resource id of the subnet for machines.')
param gatewaySubnetId string

@description('Resource id of the subnet for private endpoints.')
param privateEndpointSubnetId string

var storageBlobDataContributorRoleId = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var storageBlobDelegatorRoleId = 'db58b8e5-c6ad-4a2a-8342-4190687cbf4a'
var containerNames = ['clawhook', 'records', 'reports']

resource account 'Microsoft.Storage/storageAccounts@2025-01-01' = {
  name: take('st${replace(name, '-', '')}${uniqueString(resourceGroup().id)}', 24)
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS'
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: privateEndpoint ? 'Disabled' : 'Enabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: 'Deny'
      ipRules: [for range in operatorIpRanges: { action: 'Allow', value: range }]
      virtualNetworkRules: privateEndpoint ? [] : [{ action: 'Allow', id: gatewaySubnetId }]
    }
  }
}

resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2025-01-01' = {
  parent: account
  name: 'default'
  properties: {
    deleteRetentionPolicy: {
      enabled: true
      days: softDeleteDays
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: softDeleteDays
    }
  }
}

resource containers 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-01-01' = [
  for containerName in containerNames: {
    parent: blobService
    name: containerName
    properties: {
      publicAccess: 'None'
    }
  }
]

// The store itself has no such rule: what it may forget only the gateway knows, by `retention`.
resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2025-01-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'delete-old-records'
          enabled: true
          type: 'Lifecycle'
          definition: {
            filters: {
              blobTypes: ['blockBlob']
              prefixMatch: ['records/']
            }
            actions: {
              baseBlob: {
                delete: {
                  daysAfterModificationGreaterThan: recordsRetentionDays
                }
              }
            }
          }
        }
      ]
    }
  }
  dependsOn: [blobService]
}

// One right for each container.
resource gatewayWritesBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (containerName, i) in containerNames: {
    scope: containers[i]
    name: guid(account.id, containerName, gatewayPrincipalId, storageBlobDataContributorRoleId)
    properties: {
      principalId: gatewayPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId(
        'Microsoft.Authorization/roleDefinitions',
        storageBlobDataContributorRoleId
      )
    }
  }
]

// Links to files are signed with a key that only the account gives. This right opens no file by itself.
resource gatewaySignsLinks 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: account
  name: guid(account.id, gatewayPrincipalId, storageBlobDelegatorRoleId)
  properties: {
    principalId: gatewayPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDelegatorRoleId)
  }
}

module endpoint 'private-endpoint.bicep' = if (privateEndpoint) {
  name: 'storage-private-endpoint'
  params: {
    location: location
    name: name
    tags: tags
    virtualNetworkId: virtualNetworkId
    subnetId: privateEndpointSubnetId
    serviceId: account.id
    groupId: 'blob'
    zoneName: 'privatelink.blob.${environment().suffixes.storage}'
  }
}

@description('Name of the account.')
output name string = account.name

@description('Address of the blob service.')
output blobEndpoint string = account.properties.primaryEndpoints.blob

@description('Container of the store.')
output storeContainer string = containerNames[0]

@description('Container of exported records.')
output recordsContainer string = containerNames[1]

@description('Container of files for people, a place of the `blobs` settings.')
output reportsContainer string = containerNames[2]
