// One public address for several machines: 443 in, spread over those whose hooks door is open, and the same address out.

@description('Azure region.')
param location string

@description('Name that all resources carry.')
param name string

@description('Tags for every resource.')
param tags object

@description('Resource id of the public address.')
param publicIpId string

var loadBalancerName = 'lbe-${name}'
var frontendId = resourceId('Microsoft.Network/loadBalancers/frontendIPConfigurations', loadBalancerName, 'hooks')
var backendPoolId = resourceId('Microsoft.Network/loadBalancers/backendAddressPools', loadBalancerName, 'gateways')
var probeId = resourceId('Microsoft.Network/loadBalancers/probes', loadBalancerName, 'hooks')

resource loadBalancer 'Microsoft.Network/loadBalancers@2024-07-01' = {
  name: loadBalancerName
  location: location
  tags: tags
  sku: {
    name: 'Standard'
    tier: 'Regional'
  }
  properties: {
    frontendIPConfigurations: [
      {
        name: 'hooks'
        properties: {
          publicIPAddress: {
            id: publicIpId
          }
        }
      }
    ]
    backendAddressPools: [
      {
        name: 'gateways'
      }
    ]
    // A gateway that stops closes this door first. One whose store is away keeps it open and answers 503 with
    // Retry-After, which serves a sender better than no answer at all.
    probes: [
      {
        name: 'hooks'
        properties: {
          protocol: 'Tcp'
          port: 443
          intervalInSeconds: 5
          probeThreshold: 2
        }
      }
    ]
    loadBalancingRules: [
      {
        name: 'hooks'
        properties: {
          protocol: 'Tcp'
          frontendPort: 443
          backendPort: 443
          frontendIPConfiguration: {
            id: frontendId
          }
          backendAddressPool: {
            id: backendPoolId
          }
          probe: {
            id: probeId
          }
          idleTimeoutInMinutes: 4
          enableTcpReset: true
          disableOutboundSnat: true
        }
      }
    ]
    outboundRules: [
      {
        name: 'egress'
        properties: {
          protocol: 'All'
          frontendIPConfigurations: [
            {
              id: frontendId
            }
          ]
          backendAddressPool: {
            id: backendPoolId
          }
          // 64,000 ports of one address over at most ten machines.
          allocatedOutboundPorts: 6400
          idleTimeoutInMinutes: 4
          enableTcpReset: true
        }
      }
    ]
  }
}

@description('Resource id of the pool that machines join.')
output backendPoolId string = '${loadBalancer.id}/backendAddressPools/gateways'
