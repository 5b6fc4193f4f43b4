// Azure Database for PostgreSQL: Entra ID tokens instead of passwords, reachable from the virtual network only.

@description('Azure region.')
param location string

@description('Name that all resources carry.')
param name string

@description('Tags for every resource.')
param tags object

@description('Keeps a standby in another availability zone. Not possible with burstable sizes.')
param zoneRedundant bool

@description('Major version of PostgreSQL.')
param version string

@description('Size of the server.')
param skuName string

@minValue(32)
@description('Size of its disk in GiB. It grows by itself and never shrinks.')
param storageSizeGiB int

@description('Object id of the Entra ID administrator, who makes the role of the gateway.')
param administratorPrincipalId string

@description('Sign-in name or group name of the administrator.')
param administratorName string

@allowed(['Group', 'User', 'ServicePrincipal'])
@description('What the administrator is in Entra ID.')
param administratorType string

@description('Resource id of the virtual network.')
param virtualNetworkId string

@description('Resource id of the subnet for private endpoints.')
param privateEndpointSubnetId string

var burstable = startsWith(skuName, 'Standard_B')
var memoryOptimized = startsWith(skuName, 'Standard_E')

// The clouds of Azure have no common rule for this suffix, and environment() does not tell it.
var zoneNames = {
  AzureCloud: 'privatelink.postgres.database.azure.com'
  AzureChinaCloud: 'privatelink.postgres.database.chinacloudapi.cn'
  AzureUSGovernment: 'privatelink.postgres.database.usgovcloudapi.net'
}

resource server 'Microsoft.DBforPostgreSQL/flexibleServers@2025-08-01' = {
  name: 'psql-${name}-${uniqueString(resourceGroup().id)}'
  location: location
  tags: tags
  sku: {
    name: skuName
    tier: burstable ? 'Burstable' : memoryOptimized ? 'MemoryOptimized' : 'GeneralPurpose'
  }
  properties: {
    version: version
    authConfig: {
      activeDirectoryAuth: 'Enabled'
      passwordAuth: 'Disabled'
      tenantId: tenant().tenantId
    }
    backup: {
      backupRetentionDays: 14
      geoRedundantBackup: 'Disabled'
    }
    highAvailability: {
      mode: zoneRedundant ? 'ZoneRedundant' : 'Disabled'
    }
    network: {
      publicNetworkAccess: 'Disabled'
    }
    storage: {
      storageSizeGB: storageSizeGiB
      autoGrow: 'Enabled'
    }
  }
}

resource administrator 'Microsoft.DBforPostgreSQL/flexibleServers/administrators@2025-08-01' = {
  parent: server
  name: administratorPrincipalId
  properties: {
    principalName: administratorName
    principalType: administratorType
    tenantId: tenant().tenantId
  }
}

resource database 'Microsoft.DBforPostgreSQL/flexibleServers/databases@2025-08-01' = {
  parent: server
  name: 'clawhook'
  properties: {
    charset: 'UTF8'
    collation: 'en_US.utf8'
  }
  // The server takes one change at a time.
  dependsOn: [administrator]
}

module endpoint 'private-endpoint.bicep' = {
  name: 'postgres-private-endpoint'
  params: {
    location: location
    name: name
    tags: tags
    virtualNetworkId: virtualNetworkId
    subnetId: privateEndpointSubnetId
    serviceId: server.id
    groupId: 'postgresqlServer'
    zoneName: zoneNames[environment().name]
  }
  dependsOn: [database]
}

@description('Host name of the server.')
output host string = server.properties.fullyQualifiedDomainName

@description('Name of the database.')
output databaseName string = database.name
