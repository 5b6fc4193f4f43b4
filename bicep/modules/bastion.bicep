// The way in for people: SSH, and with the Standard SKU a tunnel to the control door, with no port open to the Internet.

@description('Azure region.')
param location string

@description('Name that all resources carry.')
param name string

@description('Tags for every resource.')
param tags object

@allowed(['Developer', 'Standard'])
@description('Developer is free, shared and for one session in the browser; Standard can tunnel any port.')
param sku string

@description('Resource id of the virtual network, for Developer.')
param virtualNetworkId string

@description('Resource id of AzureBastionSubnet, for Standard.')
param subnetId string

var isStandard = sku == 'Standard'

resource publicIp 'Microsoft.Network/publicIPAddresses@2024-07-01' = if (isStandard) {
  name: 'pip-${name}-bastion'
  location: location
  tags: tags
  sku: {
    name: 'Standard'
    tier: 'Regional'
  }
  properties: {
    publicIPAddressVersion: 'IPv4'
    publicIPAllocationMethod: 'Static'
  }
}

resource developerBastion 'Microsoft.Network/bastionHosts@2024-07-01' = if (!isStandard) {
  name: 'bas-${name}-developer'
  location: location
  tags: tags
  sku: {
    name: 'Developer'
  }
  properties: {
    virtualNetwork: {
      id: virtualNetworkId
    }
  }
}

resource standardBastion 'Microsoft.Network/bastionHosts@2024-07-01' = if (isStandard) {
  name: 'bas-${name}'
  location: location
  tags: tags
  sku: {
    name: 'Standard'
  }
  properties: {
    enableTunneling: true
    disableCopyPaste: false
    ipConfigurations: [
      {
        name: 'bastion'
        properties: {
          privateIPAllocationMethod: 'Dynamic'
          publicIPAddress: {
            id: publicIp.id
          }
          subnet: {
            id: subnetId
          }
        }
      }
    ]
  }
}
