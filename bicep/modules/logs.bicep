// Log Analytics: the JSON logs of the gateway in a table of their own, and the disks and memory of its machines.

@description('Azure region.')
param location string

@description('Name that all resources carry.')
param name string

@description('Tags for every resource.')
param tags object

@minValue(30)
@maxValue(730)
@description('Days for which logs are kept.')
param retentionDays int

@minValue(1)
@description('Gigabytes a day after which nothing more is taken in until the next day, so that a flood has a price limit.')
param dailyQuotaGiB int

var tableName = 'Clawhook_CL'

// The unit logs to the journal; Ubuntu hands that on to rsyslog, where the agent picks it up.
var jsonLines = '''
source
| where ProcessName == "clawhook" and SyslogMessage startswith "{"
| extend Entry = parse_json(SyslogMessage)
| project TimeGenerated, Computer, Level = tostring(Entry.level), Message = tostring(Entry.message), RunId = tostring(Entry["run.id"]), Code = tostring(Entry.code), Entry
'''

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: 'log-${name}'
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: retentionDays
    workspaceCapping: {
      dailyQuotaGb: dailyQuotaGiB
    }
    features: {
      disableLocalAuth: true
      enableLogAccessUsingOnlyResourcePermissions: true
    }
  }
}

resource table 'Microsoft.OperationalInsights/workspaces/tables@2025-02-01' = {
  parent: workspace
  name: tableName
  properties: {
    plan: 'Analytics'
    retentionInDays: retentionDays
    schema: {
      name: tableName
      columns: [
        { name: 'TimeGenerated', type: 'dateTime', description: 'When the line was written' }
        { name: 'Computer', type: 'string', description: 'Machine' }
        { name: 'Level', type: 'string', description: 'ERROR, WARN, INFO' }
        { name: 'Message', type: 'string', description: 'The sentence' }
        { name: 'RunId', type: 'string', description: 'The run it is about' }
        { name: 'Code', type: 'string', description: 'The code of the failure; clawhook explain tells more' }
        { name: 'Entry', type: 'dynamic', description: 'The whole line' }
      ]
    }
  }
}

resource collectionEndpoint 'Microsoft.Insights/dataCollectionEndpoints@2023-03-11' = {
  name: 'dce-${name}'
  location: location
  tags: tags
  kind: 'Linux'
  properties: {
    networkAcls: {
      publicNetworkAccess: 'Enabled'
    }
  }
}

resource collectionRule 'Microsoft.Insights/dataCollectionRules@2023-03-11' = {
  name: 'dcr-${name}'
  location: location
  tags: tags
  kind: 'Linux'
  properties: {
    description: 'Logs of the gateway; disks and memory of its machines'
    dataCollectionEndpointId: collectionEndpoint.id
    dataSources: {
      syslog: [
        {
          name: 'gateway-logs'
          streams: ['Microsoft-Syslog']
          facilityNames: ['daemon']
          logLevels: ['Info', 'Notice', 'Warning', 'Error', 'Critical', 'Alert', 'Emergency']
        }
      ]
      performanceCounters: [
        {
          name: 'machine'
          streams: ['Microsoft-Perf']
          samplingFrequencyInSeconds: 300
          counterSpecifiers: [
            'Logical Disk(*)\\% Used Space'
            'Memory(*)\\% Used Memory'
          ]
        }
      ]
    }
    destinations: {
      logAnalytics: [
        {
          name: 'workspace'
          workspaceResourceId: workspace.id
        }
      ]
    }
    dataFlows: [
      {
        streams: ['Microsoft-Syslog']
        destinations: ['workspace']
        transformKql: jsonLines
        outputStream: 'Custom-${table.name}'
      }
      {
        streams: ['Microsoft-Perf']
        destinations: ['workspace']
      }
    ]
  }
}

@description('Resource id of the workspace.')
output workspaceId string = workspace.id

@description('Resource id of the rule that machines are tied to.')
output collectionRuleId string = collectionRule.id
