// Clawhook on Azure: one machine, or several over several zones, with everything they need and nothing open but 443.
//
//   az deployment group create --resource-group RG --template-file bicep/main.bicep --parameters bicep/small.bicepparam

// What is put up

@description('Azure region. By default that of the resource group.')
param location string = resourceGroup().location

@minLength(3)
@maxLength(12)
@description('Short name that all resources carry: lower-case letters and digits, beginning with a letter.')
param name string = 'clawhook'

@description('Tags for every resource.')
param tags object = {
  application: 'clawhook'
}

@description('Several machines in several zones behind a load balancer instead of one machine.')
param highlyAvailable bool = false

@minValue(2)
@maxValue(10)
@description('Number of machines, where there are several.')
param instanceCount int = 2

@description('Availability zones for several machines and their address. Empty where the region has none.')
param zones string[] = ['1', '2', '3']

@allowed(['sqlite', 'azure-blob', 'postgres'])
@description('Where runs are kept, the storage.backend of the settings. Several machines need azure-blob or postgres.')
param storageBackend string = 'sqlite'

// The gateway

@description('Version of Clawhook that is installed.')
param clawhookVersion string

@minLength(12)
@description('Address (https) of its release archive.')
param clawhookDownloadUrl string

@minLength(64)
@maxLength(64)
@description('SHA-256 of that archive, in hex. Nothing else is installed.')
param clawhookDownloadSha256 string

@minLength(3)
@maxLength(50)
@description('First part of the DNS name that Azure gives the public address; unique in the region.')
param dnsLabel string

@description('Host name that senders call, if it is your own. Empty for the name that Azure gives.')
param hooksHost string = ''

@description('Who may reach port 443: Internet, another service tag, or a CIDR.')
param hooksSource string = 'Internet'

// The machines

@allowed([
  'Standard_B2als_v2'
  'Standard_B2ls_v2'
  'Standard_D2ls_v5'
  'Standard_B4als_v2'
  'Standard_B4ls_v2'
  'Standard_D4ls_v5'
  'Standard_D2s_v5'
  'Standard_D4s_v5'
])
@description('Size of a machine. The first three have 2 vCPU and 4 GiB, the next three 4 and 8, the last two 8 and 16 GiB. B sizes are burstable.')
param vmSize string = 'Standard_B2als_v2'

@minValue(16)
@maxValue(4095)
@description('Size of the data disk in GiB. With sqlite it holds all runs.')
param dataDiskSizeGiB int = 64

@minLength(1)
@maxLength(32)
@description('Name of the administrator of the machines.')
param adminUsername string = 'clawhookadmin'

@minLength(64)
@description('Public SSH key of the administrator. There is no password.')
param adminSshPublicKey string

// Network

@description('Address space of the virtual network, /22 or larger.')
param addressPrefix string = '10.60.0.0/16'

@allowed(['None', 'Developer', 'Standard'])
@description('Azure Bastion: Developer is free and for one session at a time, Standard can tunnel to the control door.')
param bastion string = 'Developer'

@description('Reaches Key Vault and Storage at addresses of the virtual network and closes their public doors.')
param privateEndpoints bool = false

@description('Public addresses (CIDR) from which operators fill the vault and read blobs. Without effect with private endpoints.')
param operatorIpRanges string[] = []

// People

@description('Object id in Entra ID of who fills the vault. Empty to grant that elsewhere.')
param operatorPrincipalId string = ''

@allowed(['Group', 'User', 'ServicePrincipal'])
@description('What that operator is in Entra ID.')
param operatorPrincipalType string = 'Group'

@description('Mailboxes that are told of alerts.')
param alertEmails string[] = []

@secure()
@description('Key of the route /hooks/azure-alerts of this gateway, which then is told of alerts too. Empty for none.')
param alertWebhookKey string = ''

// How long things are kept

@minValue(1)
@maxValue(3650)
@description('Days after which exported records are deleted from Blob storage.')
param recordsRetentionDays int = 365

@description('Export every finished run to the container records of the storage account, the storage.records of the settings.')
param exportRecords bool = true

@minValue(1)
@maxValue(365)
@description('Days for which deleted blobs can be brought back.')
param softDeleteDays int = 14

@minValue(30)
@maxValue(730)
@description('Days for which logs are kept.')
param logsRetentionDays int = 30

@minValue(1)
@maxValue(100)
@description('Gigabytes of logs a day that are taken in at most.')
param logsDailyQuotaGiB int = 1

// PostgreSQL, where storageBackend is postgres

@allowed(['14', '15', '16', '17'])
@description('Major version of PostgreSQL.')
param postgresVersion string = '16'

@description('Size of the PostgreSQL server. Several zones need a D or E size.')
param postgresSku string = 'Standard_B1ms'

@minValue(32)
@maxValue(32767)
@description('Disk of the PostgreSQL server in GiB.')
param postgresStorageSizeGiB int = 32

@description('Object id of the Entra ID administrator of PostgreSQL. Needed with postgres.')
param postgresAdministratorPrincipalId string = ''

@description('Sign-in name or group name of that administrator. Needed with postgres.')
param postgresAdministratorName string = ''

@allowed(['Group', 'User', 'ServicePrincipal'])
@description('What that administrator is in Entra ID.')
param postgresAdministratorType string = 'Group'

var onPostgres = storageBackend == 'postgres'
var machineZones = highlyAvailable ? zones : []
var machineCount = highlyAvailable ? instanceCount : 1

var backend = highlyAvailable && storageBackend == 'sqlite'
  ? fail('Several machines cannot share SQLite: set storageBackend to azure-blob or postgres.')
  : storageBackend
var postgresAdministrator = onPostgres && (empty(postgresAdministratorPrincipalId) || empty(postgresAdministratorName))
  ? fail('PostgreSQL needs postgresAdministratorPrincipalId and postgresAdministratorName.')
  : postgresAdministratorPrincipalId

var cloudNames = {
  AzureCloud: 'public'
  AzureChinaCloud: 'china'
  AzureUSGovernment: 'usgov'
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  params: {
    location: location
    name: name
    tags: tags
  }
}

module network 'modules/network.bicep' = {
  name: 'network'
  params: {
    location: location
    name: name
    tags: tags
    addressPrefix: addressPrefix
    hooksSource: hooksSource
    bastionSubnet: bastion == 'Standard'
    bastionDeveloper: bastion == 'Developer'
    serviceEndpoints: !privateEndpoints
  }
}

module publicIp 'modules/public-ip.bicep' = {
  name: 'public-ip'
  params: {
    location: location
    name: name
    tags: tags
    dnsLabel: dnsLabel
    zones: machineZones
  }
}

module bastionHost 'modules/bastion.bicep' = if (bastion != 'None') {
  name: 'bastion'
  params: {
    location: location
    name: name
    tags: tags
    sku: bastion == 'Standard' ? 'Standard' : 'Developer'
    virtualNetworkId: network.outputs.id
    subnetId: network.outputs.bastionSubnetId
  }
}

module keyVault 'modules/key-vault.bicep' = {
  name: 'key-vault'
  params: {
    location: location
    name: name
    tags: tags
    gatewayPrincipalId: identity.outputs.principalId
    operatorPrincipalId: operatorPrincipalId
    operatorPrincipalType: operatorPrincipalType
    privateEndpoint: privateEndpoints
    operatorIpRanges: operatorIpRanges
    virtualNetworkId: network.outputs.id
    gatewaySubnetId: network.outputs.gatewaySubnetId
    privateEndpointSubnetId: network.outputs.privateEndpointSubnetId
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    location: location
    name: name
    tags: tags
    zoneRedundant: highlyAvailable && !empty(zones)
    gatewayPrincipalId: identity.outputs.principalId
    recordsRetentionDays: recordsRetentionDays
    softDeleteDays: softDeleteDays
    privateEndpoint: privateEndpoints
    operatorIpRanges: operatorIpRanges
    virtualNetworkId: network.outputs.id
    gatewaySubnetId: network.outputs.gatewaySubnetId
    privateEndpointSubnetId: network.outputs.privateEndpointSubnetId
  }
}

module postgres 'modules/postgres.bicep' = if (onPostgres) {
  name: 'postgres'
  params: {
    location: location
    name: name
    tags: tags
    zoneRedundant: highlyAvailable && !empty(zones)
    version: postgresVersion
    skuName: postgresSku
    storageSizeGiB: postgresStorageSizeGiB
    administratorPrincipalId: postgresAdministrator
    administratorName: postgresAdministratorName
    administratorType: postgresAdministratorType
    virtualNetworkId: network.outputs.id
    privateEndpointSubnetId: network.outputs.privateEndpointSubnetId
  }
}

module logs 'modules/logs.bicep' = {
  name: 'logs'
  params: {
    location: location
    name: name
    tags: tags
    retentionDays: logsRetentionDays
    dailyQuotaGiB: logsDailyQuotaGiB
  }
}

var host = empty(hooksHost) ? publicIp.outputs.fqdn : hooksHost
var postgresHost = onPostgres ? postgres!.outputs.host : ''

// Nothing here is a secret: those are read from the vault.
var cloudInit = reduce(
  items({
    CLAWHOOK_VERSION: clawhookVersion
    CLAWHOOK_DOWNLOAD_URL: clawhookDownloadUrl
    CLAWHOOK_DOWNLOAD_SHA256: clawhookDownloadSha256
    VAULT_URL: keyVault.outputs.uri
    CLIENT_ID: identity.outputs.clientId
    // Machines behind one load balancer take each other's tokens.
    JWT_SECRET_NAME: highlyAvailable ? 'jwt-secret' : ''
    STORAGE_BACKEND: backend
    BLOB_ENDPOINT: storage.outputs.blobEndpoint
    BLOB_CONTAINER: storage.outputs.storeContainer
    RECORDS_CONTAINER: exportRecords ? storage.outputs.recordsContainer : ''
    POSTGRES_HOST: postgresHost
    POSTGRES_DATABASE: onPostgres ? postgres!.outputs.databaseName : ''
    POSTGRES_USER: identity.outputs.name
    CLOUD: cloudNames[environment().name]
    HOOKS_HOST: host
  }),
  loadTextContent('../infra/cloud-init.yaml'),
  (text, value) => replace(string(text), '@@${value.key}@@', value.value)
)

module virtualMachine 'modules/virtual-machine.bicep' = if (!highlyAvailable) {
  name: 'virtual-machine'
  params: {
    location: location
    name: name
    tags: tags
    vmSize: vmSize
    dataDiskSizeGiB: dataDiskSizeGiB
    adminUsername: adminUsername
    adminSshPublicKey: adminSshPublicKey
    userData: base64(cloudInit)
    identityId: identity.outputs.id
    subnetId: network.outputs.gatewaySubnetId
    publicIpId: publicIp.outputs.id
    collectionRuleId: logs.outputs.collectionRuleId
  }
}

module loadBalancer 'modules/load-balancer.bicep' = if (highlyAvailable) {
  name: 'load-balancer'
  params: {
    location: location
    name: name
    tags: tags
    publicIpId: publicIp.outputs.id
  }
}

module scaleSet 'modules/scale-set.bicep' = if (highlyAvailable) {
  name: 'scale-set'
  params: {
    location: location
    name: name
    tags: tags
    vmSize: vmSize
    instanceCount: instanceCount
    zones: machineZones
    dataDiskSizeGiB: dataDiskSizeGiB
    adminUsername: adminUsername
    adminSshPublicKey: adminSshPublicKey
    customData: base64(cloudInit)
    identityId: identity.outputs.id
    subnetId: network.outputs.gatewaySubnetId
    backendPoolId: loadBalancer!.outputs.backendPoolId
    collectionRuleId: logs.outputs.collectionRuleId
  }
}

var machineId = highlyAvailable ? scaleSet!.outputs.firstMachineId : virtualMachine!.outputs.id

module alerts 'modules/alerts.bicep' = {
  name: 'alerts'
  params: {
    location: location
    name: name
    tags: tags
    workspaceId: logs.outputs.workspaceId
    machineCount: machineCount
    emails: alertEmails
    webhookUri: empty(alertWebhookKey) ? '' : 'https://${host}/hooks/azure-alerts?key=${uriComponent(alertWebhookKey)}'
  }
}

// Azure operated by 21Vianet does not hand events of a vault to alerts.
module expiryAlerts 'modules/expiry-alerts.bicep' = if (environment().name != 'AzureChinaCloud') {
  name: 'expiry-alerts'
  params: {
    location: location
    name: name
    tags: tags
    vaultId: keyVault.outputs.id
    actionGroupId: alerts.outputs.actionGroupId
  }
}

var postgresStep = 'Make the role of the gateway, signed in to ${postgresHost} as ${postgresAdministratorName}. In the database postgres: select * from pgaadauth_create_principal(\'${identity.outputs.name}\', false, false); grant all on database clawhook to "${identity.outputs.name}". In the database clawhook: grant all on schema public to "${identity.outputs.name}".'
var tunnelStep = 'Look at the gateway: az network bastion tunnel --name bas-${name} --resource-group ${resourceGroup().name} --target-resource-id ${machineId} --resource-port 22 --port 2222, then ssh -p 2222 -L 8080:127.0.0.1:8080 ${adminUsername}@127.0.0.1, and open http://127.0.0.1:8080.'
var portalStep = 'Look at the gateway: sign in to the machine as ${adminUsername}, through Bastion in the portal or from the virtual network.'

@description('Where senders call.')
output hooksUrl string = 'https://${host}'

@description('Public address, for a DNS record of your own.')
output publicIpAddress string = publicIp.outputs.ipAddress

@description('The vault_url of the settings.')
output vaultUri string = keyVault.outputs.uri

@description('Address of the blob service, the store and the records.')
output blobEndpoint string = storage.outputs.blobEndpoint

@description('Container of exported records, the storage.records of the settings.')
output recordsContainer string = storage.outputs.recordsContainer

@description('Container of files for people, a place of the `blobs` settings.')
output reportsContainer string = storage.outputs.reportsContainer

@description('Host of PostgreSQL; empty without it.')
output postgresServer string = postgresHost

@description('Resource id of the machine, or of the first of several.')
output machineId string = machineId

@description('What to do next.')
output nextSteps string[] = concat(
  empty(hooksHost) ? [] : ['Point the DNS name ${hooksHost} at ${publicIp.outputs.ipAddress}.'],
  onPostgres ? [postgresStep] : [],
  highlyAvailable
    ? ['Make the secret that signs tokens on every machine: openssl rand -hex 32 | tr -d "\\n" > value && az keyvault secret set --vault-name ${keyVault.outputs.name} --name jwt-secret --file value --output none && rm value. Until it is there, the gateways do not start.']
    : [],
  [
    'Put every secret that your files name into the vault: az keyvault secret set --vault-name ${keyVault.outputs.name} --name NAME --file FILE --output none${privateEndpoints ? ' (from inside the virtual network)' : ''}'
    'Put the TLS certificate for ${host} into the vault under the name hooks, or let Key Vault issue it under that name; without it the hooks door does not open.'
    bastion == 'Standard' ? tunnelStep : portalStep
    'On the machine, sudo clawhook-admin doctor and sudo clawhook-admin secrets check say what is missing and which command mends it.'
    'Send the first webhook to https://${host}.'
  ]
)
