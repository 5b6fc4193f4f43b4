// The identity of the gateway. It is made on its own, so that its rights stand before the first machine starts.

@description('Azure region.')
param location string

@description('Name that all resources carry.')
param name string

@description('Tags for every resource.')
param tags object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-${name}'
  location: location
  tags: tags
}

@description('Resource id, for machines that run under this identity.')
output id string = identity.id

@description('Name, which is also its user name in PostgreSQL.')
output name string = identity.name

@description('Object id, for role assignments.')
output principalId string = identity.properties.principalId

@description('Client id, by which the gateway asks for tokens.')
output clientId string = identity.properties.clientId
