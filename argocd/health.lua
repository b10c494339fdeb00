-- Argo CD's health of a TriggerJob; without it Argo CD calls every custom resource healthy. Into ConfigMap argocd-cm:
--
--   resource.customizations.health.triggerjob.io_TriggerJob: |
--     (this file)
--
-- Tested by e2e/manifests/argocd.test.ts.
local function verdict(status, message)
  return { status = status, message = message }
end

local status = obj.status
if obj.metadata.deletionTimestamp ~= nil then
  return verdict("Progressing", "it is being deleted")
end
if status == nil or status.observedGeneration == nil then
  return verdict("Progressing", "the operator has not seen it yet")
end
-- The status of an older spec says nothing of this one.
if obj.metadata.generation ~= nil and status.observedGeneration < obj.metadata.generation then
  return verdict("Progressing", "the operator has not seen generation " .. tostring(obj.metadata.generation) .. " yet")
end

local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end
local function holds(name, value)
  return found[name] ~= nil and found[name].status == value
end
local function said(name)
  local condition = found[name]
  return (condition.reason or "") .. ": " .. (condition.message or "")
end

if holds("Stalled", "True") then
  return verdict("Degraded", said("Stalled"))
end
if holds("Reconciling", "True") then
  if found["Reconciling"].reason == "Paused" then
    return verdict("Suspended", said("Reconciling"))
  end
  return verdict("Progressing", said("Reconciling"))
end
if status.state == "Failed" then
  return verdict("Degraded", status.error or status.summary or "the job failed")
end
if status.state == "Suspended" then
  return verdict("Suspended", status.summary or "the job is suspended")
end
if status.state == "Finished" then
  return verdict("Healthy", status.summary or "the job has ended")
end
if holds("Ready", "True") then
  if holds("CheckpointHealthy", "False") then
    return verdict("Degraded", said("CheckpointHealthy"))
  end
  return verdict("Healthy", said("Ready"))
end
if found["Ready"] ~= nil then
  return verdict("Progressing", said("Ready"))
end
return verdict("Progressing", "it has no condition Ready yet")
