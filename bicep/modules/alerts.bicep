// What wakes people: log alerts, to mailboxes and back into a route of Clawhook, which tells WeCom or DingTalk.

@description('Azure region.')
param location string

@description('Name that all resources carry.')
param name string

@description('Tags for every resource.')
param tags object

@description('Resource id of the Log Analytics workspace.')
param workspaceId string

@description('How many machines should be alive.')
param machineCount int

@description('Mailboxes that are told. A gateway that is down cannot call itself, so at least one is wise.')
param emails string[]

@secure()
@description('Address of the route with its key, called with the common alert schema; empty for none.')
param webhookUri string

var rules = [
  {
    name: 'no-heartbeat'
    description: 'Fewer machines than expected reported in the last 15 minutes.'
    severity: 0
    window: 'PT15M'
    query: 'Heartbeat | summarize Machines = dcount(Computer) | where Machines < ${machineCount}'
  }
  {
    name: 'failed-runs'
    description: 'Runs failed. Look with: clawhook runs list --status failed'
    severity: 2
    window: 'PT5M'
    query: 'Clawhook_CL | where isnotempty(RunId) and isnotempty(Code) and Message has "failed" | project TimeGenerated, RunId, Code, Message'
  }
  {
    name: 'errors'
    description: 'The gateway logged an error that a person should act on.'
    severity: 1
    window: 'PT5M'
    query: 'Clawhook_CL | where Level == "ERROR" | project TimeGenerated, Computer, Message'
  }
  {
    name: 'disk'
    description: 'A disk is more than 85 percent full.'
    severity: 1
    window: 'PT15M'
    query: 'Perf | where ObjectName == "Logical Disk" and CounterName == "% Used Space" and CounterValue > 85 | summarize Used = max(CounterValue) by Computer, InstanceName'
  }
]

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${name}'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: take(name, 12)
    emailReceivers: [
      for email in emails: {
        name: email
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
    webhookReceivers: empty(webhookUri)
      ? []
      : [
          {
            name: 'clawhook'
            serviceUri: webhookUri
            useCommonAlertSchema: true
          }
        ]
  }
}

resource logAlerts 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for rule in rules: {
    name: 'alert-${name}-${rule.name}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: '${name}: ${rule.name}'
      description: rule.description
      enabled: true
      severity: rule.severity
      scopes: [workspaceId]
      evaluationFrequency: 'PT5M'
      windowSize: rule.window
      autoMitigate: true
      // On the first deployment the tables have not seen a line yet.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: rule.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      actions: {
        actionGroups: [actionGroup.id]
      }
    }
  }
]

@description('Resource id of the action group.')
output actionGroupId string = actionGroup.id
