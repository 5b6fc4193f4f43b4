// Certificates and secrets that are about to expire: Key Vault says so 30 days ahead, and the action group hears it.

@description('Azure region.')
param location string

@description('Name that all resources carry.')
param name string

@description('Tags for every resource.')
param tags object

@description('Resource id of the vault.')
param vaultId string

@description('Resource id of the action group.')
param actionGroupId string

resource vaultEvents 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: 'evgt-${name}-vault'
  location: location
  tags: tags
  properties: {
    source: vaultId
    topicType: 'Microsoft.KeyVault.vaults'
  }
}

resource expiry 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: vaultEvents
  name: 'expiry'
  properties: {
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    filter: {
      includedEventTypes: [
        'Microsoft.KeyVault.CertificateNearExpiry'
        'Microsoft.KeyVault.CertificateExpired'
        'Microsoft.KeyVault.SecretNearExpiry'
        'Microsoft.KeyVault.SecretExpired'
      ]
    }
    destination: {
      endpointType: 'MonitorAlert'
      properties: {
        description: 'A certificate or secret of the gateway is about to expire.'
        severity: 'Sev1'
        actionGroups: [actionGroupId]
      }
    }
  }
}
