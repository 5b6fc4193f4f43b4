// The virtual network. From outside only 443 is let in; the control door and SSH are for the network itself.

@description('Azure region.')
param location string

@description('Name that all resources carry.')
param name string

@description('Tags for every resource.')
param tags object

@description('Address space of the virtual network, /22 or larger.')
param addressPrefix string

@description('Who may reach port 443: a service tag such as Internet, or a CIDR.')
param hooksSource string

@description('Adds the subnet that a Standard Bastion needs.')
param bastionSubnet bool

@description('Lets the Bastion Developer service, which has no subnet of its own, reach SSH.')
param bastionDeveloper bool

@description('Reaches Key Vault and Storage over service endpoints. Not needed where they have private endpoints.')
param serviceEndpoints bool

var serviceEndpointList = serviceEndpoints ? [{ service: 'Microsoft.KeyVault' }, { service: 'Microsoft.Storage' }] : []

// Bastion Developer comes from the platform's own address, not from the virtual network.
var bastionDeveloperRules = bastionDeveloper
  ? [
      {
        name: 'AllowBastionDeveloperSsh'
        properties: {
          description: 'SSH through Bastion Developer'
          priority: 130
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: '168.63.129.16/32'
          sourcePortRange: '*'
          destinationAddressPrefix: 'VirtualNetwork'
          destinationPortRange: '22'
        }
      }
    ]
  : []

var bastionSubnets = bastionSubnet
  ? [
      {
        name: 'AzureBastionSubnet'
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 26, 8)
        }
      }
    ]
  : []

resource gatewayRules 'Microsoft.Network/networkSecurityGroups@2024-07-01' = {
  name: 'nsg-${name}-gateway'
  location: location
  tags: tags
  properties: {
    securityRules: concat(
      [
        {
          name: 'AllowHooks'
          properties: {
            description: 'Webhooks over TLS'
            priority: 100
            direction: 'Inbound'
            access: 'Allow'
            protocol: 'Tcp'
            sourceAddressPrefix: hooksSource
            sourcePortRange: '*'
            destinationAddressPrefix: '*'
            destinationPortRange: '443'
          }
        }
        {
          name: 'AllowHealthProbe'
          properties: {
            description: 'The load balancer asks whether the hooks door is open'
            priority: 110
            direction: 'Inbound'
            access: 'Allow'
            protocol: 'Tcp'
            sourceAddressPrefix: 'AzureLoadBalancer'
            sourcePortRange: '*'
            destinationAddressPrefix: '*'
            destinationPortRange: '443'
          }
        }
        {
          name: 'AllowControlFromNetwork'
          properties: {
            description: 'Control door, gRPC and SSH, from the virtual network and so from Bastion'
            priority: 120
            direction: 'Inbound'
            access: 'Allow'
            protocol: 'Tcp'
            sourceAddressPrefix: 'VirtualNetwork'
            sourcePortRange: '*'
            destinationAddressPrefix: 'VirtualNetwork'
            destinationPortRanges: ['22', '8080', '50051']
          }
        }
        {
          name: 'DenyEverythingElse'
          properties: {
            description: 'Also between machines of the virtual network'
            priority: 4096
            direction: 'Inbound'
            access: 'Deny'
            protocol: '*'
            sourceAddressPrefix: '*'
            sourcePortRange: '*'
            destinationAddressPrefix: '*'
            destinationPortRange: '*'
          }
        }
      ],
      bastionDeveloperRules
    )
  }
}

resource privateRules 'Microsoft.Network/networkSecurityGroups@2024-07-01' = {
  name: 'nsg-${name}-private'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'DenyOutside'
        properties: {
          description: 'Private endpoints serve the virtual network only'
          priority: 4096
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: 'Internet'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

// Subnets are listed here and nowhere else: a subnet of its own resource would be dropped when this one is deployed again.
resource virtualNetwork 'Microsoft.Network/virtualNetworks@2024-07-01' = {
  name: 'vnet-${name}'
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [addressPrefix]
    }
    subnets: concat(
      [
        {
          name: 'gateway'
          properties: {
            addressPrefix: cidrSubnet(addressPrefix, 24, 0)
            defaultOutboundAccess: false
            networkSecurityGroup: {
              id: gatewayRules.id
            }
            serviceEndpoints: serviceEndpointList
          }
        }
        {
          name: 'private-endpoints'
          properties: {
            addressPrefix: cidrSubnet(addressPrefix, 24, 1)
            defaultOutboundAccess: false
            privateEndpointNetworkPolicies: 'Enabled'
            networkSecurityGroup: {
              id: privateRules.id
            }
          }
        }
      ],
      bastionSubnets
    )
  }
}

@description('Resource id of the virtual network.')
output id string = virtualNetwork.id

@description('Resource id of the subnet for machines.')
output gatewaySubnetId string = '${virtualNetwork.id}/subnets/gateway'

@description('Resource id of the subnet for private endpoints.')
output privateEndpointSubnetId string = '${virtualNetwork.id}/subnets/private-endpoints'

@description('Resource id of the subnet for Bastion; it exists only where it was asked for.')
output bastionSubnetId string = '${virtualNetwork.id}/subnets/AzureBastionSubnet'
