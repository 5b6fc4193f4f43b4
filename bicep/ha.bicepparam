// Three machines in three zones over a zone-redundant PostgreSQL; vault and storage reachable from the network only.
using 'main.bicep'

param name = 'clawhook'
param highlyAvailable = true
param instanceCount = 3
param zones = ['1', '2', '3']
param storageBackend = 'postgres'
param vmSize = 'Standard_D2ls_v5'
param dataDiskSizeGiB = 32
param bastion = 'Standard'
param privateEndpoints = true

param dnsLabel = readEnvironmentVariable('CLAWHOOK_DNS_LABEL')
param clawhookVersion = readEnvironmentVariable('CLAWHOOK_VERSION')
param clawhookDownloadUrl = readEnvironmentVariable('CLAWHOOK_DOWNLOAD_URL')
param clawhookDownloadSha256 = readEnvironmentVariable('CLAWHOOK_DOWNLOAD_SHA256')
param adminSshPublicKey = readEnvironmentVariable('CLAWHOOK_SSH_PUBLIC_KEY')

param operatorPrincipalId = readEnvironmentVariable('CLAWHOOK_OPERATOR_ID')
param alertWebhookKey = readEnvironmentVariable('CLAWHOOK_ALERT_KEY', '')
param alertEmails = []

param postgresVersion = '16'
param postgresSku = 'Standard_D2ds_v5'
param postgresStorageSizeGiB = 128
param postgresAdministratorPrincipalId = readEnvironmentVariable('CLAWHOOK_POSTGRES_ADMIN_ID')
param postgresAdministratorName = readEnvironmentVariable('CLAWHOOK_POSTGRES_ADMIN_NAME')
param postgresAdministratorType = 'Group'

param recordsRetentionDays = 730
param logsRetentionDays = 90
param logsDailyQuotaGiB = 5
