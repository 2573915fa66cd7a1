-- Health of every kind of MazeVault, by the conditions that docs/guides/gitops.md explains.
local health = { status = "Progressing", message = "Waiting for MazeVault to look at the manifest as it is" }
if obj.metadata.deletionTimestamp ~= nil then
  health.message = "Is being deleted"
  return health
end
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health
end
for _, condition in ipairs(obj.status.conditions or {}) do
  if condition.type == "Stalled" and condition.status == "True" then
    return { status = "Degraded", message = condition.reason .. ": " .. condition.message }
  end
  if condition.type == "Ready" then
    health.message = condition.message
    if condition.status == "True" then
      health.status = "Healthy"
    elseif condition.reason == "Suspended" or condition.reason == "DryRun" then
      health.status = "Suspended"
    else
      health.message = condition.reason .. ": " .. condition.message
    end
  end
end
return health
