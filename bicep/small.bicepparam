// One machine with 2 vCPU and 4 GiB; runs in SQLite on its data disk.
using 'main.bicep'

param name = 'clawhook'
param highlyAvailable = false
param storageBackend = 'sqlite'
param vmSize = 'Standard_B2als_v2'
param dataDiskSizeGiB = 64
param bastion = 'Developer'

param dnsLabel = readEnvironmentVariable('CLAWHOOK_DNS_LABEL')
param clawhookVersion = readEnvironmentVariable('CLAWHOOK_VERSION')
param clawhookDownloadUrl = readEnvironmentVariable('CLAWHOOK_DOWNLOAD_URL')
param clawhookDownloadSha256 = readEnvironmentVariable('CLAWHOOK_DOWNLOAD_SHA256')
param adminSshPublicKey = readEnvironmentVariable('CLAWHOOK_SSH_PUBLIC_KEY')

param operatorPrincipalId = readEnvironmentVariable('CLAWHOOK_OPERATOR_ID', '')
param alertWebhookKey = readEnvironmentVariable('CLAWHOOK_ALERT_KEY', '')

// Whom to tell when the gateway cannot tell anyone itself.
param alertEmails = []
// Your office or VPN, so that secrets can be put into the vault from there.
param operatorIpRanges = []
