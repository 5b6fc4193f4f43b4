// The address that senders call, with its DNS name.

@description('Azure region.')
param location string

@description('Name that all resources carry.')
param name string

@description('Tags for every resource.')
param tags object

@description('First part of the DNS name, unique in the region.')
param dnsLabel string

@description('Availability zones of the address.')
param zones string[]

resource publicIp 'Microsoft.Network/publicIPAddresses@2024-07-01' = {
  name: 'pip-${name}'
  location: location
  tags: tags
  sku: {
    name: 'Standard'
    tier: 'Regional'
  }
  zones: zones
  properties: {
    publicIPAddressVersion: 'IPv4'
    publicIPAllocationMethod: 'Static'
    dnsSettings: {
      domainNameLabel: dnsLabel
    }
  }
}

@description('Resource id of the address.')
output id string = publicIp.id

@description('The address itself.')
output ipAddress string = publicIp.properties.ipAddress

@description('The DNS name that Azure gives it.')
output fqdn string = publicIp.properties.dnsSettings.fqdn
