// Several machines in several zones over one store. A machine that fails is replaced; nothing on its disks is needed again.

@description('Azure region.')
param location string

@description('Name that all resources carry.')
param name string

@description('Tags for every resource.')
param tags object

@description('Size of the machines.')
param vmSize string

@minValue(2)
@maxValue(10)
@description('Number of machines.')
param instanceCount int

@description('Availability zones they are spread over; empty for a region without.')
param zones string[]

@description('Size of the data disk of each machine in GiB. It is LUN 0 and holds what can be rebuilt.')
param dataDiskSizeGiB int

@description('Name of the administrator of the machines.')
param adminUsername string

@description('Public SSH key of the administrator. There is no password.')
param adminSshPublicKey string

@description('cloud-init document, in base64.')
param customData string

@description('Resource id of the identity of the gateway.')
param identityId string

@description('Resource id of the subnet.')
param subnetId string

@description('Resource id of the pool of the load balancer.')
param backendPoolId string

@description('Resource id of the data collection rule.')
param collectionRuleId string

resource scaleSet 'Microsoft.Compute/virtualMachineScaleSets@2024-11-01' = {
  name: 'vmss-${name}'
  location: location
  tags: tags
  zones: zones
  sku: {
    name: vmSize
    tier: 'Standard'
    capacity: instanceCount
  }
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    orchestrationMode: 'Uniform'
    overprovision: false
    platformFaultDomainCount: empty(zones) ? 5 : 1
    // Half of the machines at most are away at one time, and the next half goes only when the first is healthy.
    upgradePolicy: {
      mode: 'Rolling'
      rollingUpgradePolicy: {
        maxBatchInstancePercent: 50
        maxUnhealthyInstancePercent: 50
        maxUnhealthyUpgradedInstancePercent: 50
        pauseTimeBetweenBatches: 'PT2M'
      }
      automaticOSUpgradePolicy: {
        enableAutomaticOSUpgrade: true
      }
    }
    automaticRepairsPolicy: {
      enabled: true
      gracePeriod: 'PT30M'
    }
    virtualMachineProfile: {
      securityProfile: {
        encryptionAtHost: true
        securityType: 'TrustedLaunch'
        uefiSettings: {
          secureBootEnabled: true
          vTpmEnabled: true
        }
      }
      storageProfile: {
        imageReference: {
          publisher: 'Canonical'
          offer: '0001-com-ubuntu-server-jammy'
          sku: '22_04-lts-gen2'
          version: 'latest'
        }
        osDisk: {
          createOption: 'FromImage'
          caching: 'ReadWrite'
          managedDisk: {
            storageAccountType: 'StandardSSD_LRS'
          }
        }
        dataDisks: [
          {
            lun: 0
            createOption: 'Empty'
            caching: 'None'
            diskSizeGB: dataDiskSizeGiB
            managedDisk: {
              storageAccountType: 'Premium_LRS'
            }
          }
        ]
      }
      osProfile: {
        computerNamePrefix: 'vm-${name}-'
        adminUsername: adminUsername
        customData: customData
        linuxConfiguration: {
          disablePasswordAuthentication: true
          provisionVMAgent: true
          ssh: {
            publicKeys: [
              {
                path: '/home/${adminUsername}/.ssh/authorized_keys'
                keyData: adminSshPublicKey
              }
            ]
          }
        }
      }
      networkProfile: {
        networkInterfaceConfigurations: [
          {
            name: 'nic-${name}'
            properties: {
              primary: true
              ipConfigurations: [
                {
                  name: 'gateway'
                  properties: {
                    primary: true
                    subnet: {
                      id: subnetId
                    }
                    loadBalancerBackendAddressPools: [
                      {
                        id: backendPoolId
                      }
                    ]
                  }
                }
              ]
            }
          }
        ]
      }
      diagnosticsProfile: {
        bootDiagnostics: {
          enabled: true
        }
      }
      extensionProfile: {
        extensions: [
          {
            // Asks whether the process lives, not whether its store does: an outage of the store mends nothing by
            // replacing machines.
            name: 'ApplicationHealthLinux'
            properties: {
              publisher: 'Microsoft.ManagedServices'
              type: 'ApplicationHealthLinux'
              typeHandlerVersion: '1.0'
              autoUpgradeMinorVersion: true
              settings: {
                protocol: 'http'
                port: 8080
                requestPath: '/healthz'
                intervalInSeconds: 10
                numberOfProbes: 3
              }
            }
          }
          {
            name: 'AzureMonitorLinuxAgent'
            properties: {
              publisher: 'Microsoft.Azure.Monitor'
              type: 'AzureMonitorLinuxAgent'
              typeHandlerVersion: '1.33'
              autoUpgradeMinorVersion: true
              enableAutomaticUpgrade: true
              settings: {
                authentication: {
                  managedIdentity: {
                    'identifier-name': 'mi_res_id'
                    'identifier-value': identityId
                  }
                }
              }
            }
          }
        ]
      }
    }
  }
}

resource collection 'Microsoft.Insights/dataCollectionRuleAssociations@2023-03-11' = {
  scope: scaleSet
  name: 'dcra-${name}'
  properties: {
    dataCollectionRuleId: collectionRuleId
  }
}

@description('Resource id of the first machine, for a tunnel.')
output firstMachineId string = '${scaleSet.id}/virtualMachines/0'
