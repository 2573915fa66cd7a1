{{/* What the schema cannot say, all of it in one message: which value, and what to do. */}}
{{- define "mazevault.validate" -}}
{{- $problems := list -}}
{{- $config := .Values.config -}}
{{- $vault := .Values.secretProviderClass -}}
{{- $database := .Values.database -}}
{{- if and (not .Values.postgresql.enabled) (not $database.host) -}}
{{- if not (include "mazevault.given" (dict "context" . "names" (list "MAZEVAULT_DATABASE_HOST"))) -}}
{{- $problems = append $problems "database.host: required; set it to the host name of PostgreSQL, as it stands in its certificate" -}}
{{- else if include "mazevault.hasOcsp" . -}}
{{- $problems = append $problems "database.host: required beside MAZEVAULT_DATABASE_HOST, which the OCSP responder is not told; set it to the same, or ocsp.mode to Off" -}}
{{- end -}}
{{- end -}}
{{- if and $database.host .Values.postgresql.enabled -}}
{{- $problems = append $problems "database.host: names a server where postgresql.enabled makes one; keep one of the two" -}}
{{- end -}}
{{- $databaseFromSecret := or (not (dig "database" "passwordSecret" "" $config)) (not (and $vault.enabled $vault.files.databaseCa)) (include "mazevault.hasOcsp" .) -}}
{{- if and $databaseFromSecret (not $database.secretName) -}}
{{- $problems = append $problems (printf "database.secretName: required; make a Secret with the keys %s and %s, the password of role %s and the CA certificates of PostgreSQL" $database.passwordKey $database.caKey $database.user) -}}
{{- end -}}
{{- if and (not .Values.rootKey.secretName) (not (dig "keys" "rootKeySecret" "" $config)) (not (dig "keys" "file" "" $config)) -}}
{{- $problems = append $problems (printf "rootKey.secretName: required; make a Secret with the key %s, `openssl rand -base64 32`, and keep a copy elsewhere" .Values.rootKey.key) -}}
{{- end -}}
{{- if and (not .Values.rest.tls.secretName) (not (and $vault.enabled $vault.files.restTls)) -}}
{{- $problems = append $problems "rest.tls.secretName: required; make a kubernetes.io/tls Secret for the name that clients of REST use" -}}
{{- end -}}
{{- if and .Values.redis.secretName (not .Values.redis.url) -}}
{{- $problems = append $problems "redis.url: required with redis.secretName; set it to rediss://HOST:PORT" -}}
{{- end -}}
{{- if and (include "mazevault.hasOcsp" .) (not .Values.ocsp.database.secretName) -}}
{{- $problems = append $problems (printf "ocsp.database.secretName: required; make a Secret with the key %s, the password of role %s, or set ocsp.mode to Off" .Values.ocsp.database.passwordKey .Values.ocsp.database.user) -}}
{{- end -}}
{{- if and (eq .Values.ocsp.mode "Sidecar") .Values.ocsp.autoscaling.enabled -}}
{{- $problems = append $problems "ocsp.autoscaling.enabled: a sidecar has as many replicas as REST; use rest.autoscaling, or ocsp.mode Deployment" -}}
{{- end -}}
{{- range $component := list "rest" "ocsp" -}}
{{- with (get $.Values $component).autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- $problems = append $problems (printf "%s.autoscaling.minReplicas: %v are more than maxReplicas, %v; lower the one or raise the other" $component .minReplicas .maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.rbac.onboardNamespaces .Values.rbac.namespaces -}}
{{- $problems = append $problems "rbac.namespaces: the operator lets itself in with rbac.onboardNamespaces; set that to false, or leave the list out and name the namespaces in Projects" -}}
{{- end -}}
{{- if and .Values.postgresql.enabled (not .Values.postgresql.tls.secretName) -}}
{{- $problems = append $problems (printf "postgresql.tls.secretName: required; make a kubernetes.io/tls Secret for the name %s" (include "mazevault.databaseHost" .)) -}}
{{- end -}}
{{- if $vault.enabled -}}
{{- range list "clientID" "keyvaultName" "tenantId" -}}
{{- if not (get $vault.parameters .) -}}
{{- $problems = append $problems (printf "secretProviderClass.parameters.%s: required with secretProviderClass.enabled" .) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- if not (dig "operationalSecrets" "vaultUrl" "" $config) -}}
{{- range splitList "\n" (include "mazevault.vaultEntries" . | trim) -}}
{{- if . -}}
{{- $problems = append $problems (printf "%s: needs config.operationalSecrets.vaultUrl, such as https://kv-mazevault-npr.vault.azure.net/" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.rootKey.secretName (dig "keys" "rootKeySecret" "" $config) -}}
{{- $problems = append $problems "rootKey.secretName: names a Secret where config.keys.rootKeySecret names an entry of a Key Vault; keep one of the two" -}}
{{- end -}}
{{- if and .Values.rootKey.previous.secretName (dig "keys" "previous" "rootKeySecret" "" $config) -}}
{{- $problems = append $problems "rootKey.previous.secretName: names a Secret where config.keys.previous.rootKeySecret names an entry of a Key Vault; keep one of the two" -}}
{{- end -}}
{{- $identity := "azure.workload.identity/client-id" -}}
{{- $usesVault := or $vault.enabled (include "mazevault.vaultEntries" .) -}}
{{- if and (eq .Values.mode "primary") $usesVault (get (default dict .Values.serviceAccount.annotations) $identity) (not (get (default dict .Values.rest.serviceAccount.annotations) $identity)) -}}
{{- $problems = append $problems (printf "rest.serviceAccount.annotations: REST reads the Key Vault too, by an account of its own; set %s as it is in serviceAccount.annotations, and give the identity a federated credential for both accounts" $identity) -}}
{{- end -}}
{{- if eq .Values.mode "gateway" -}}
{{- /* What is in `env` would count. A role that nobody said is `primary`. */ -}}
{{- $said := dict "MAZEVAULT_GATEWAY_ENVIRONMENT" (list "environment" .Values.gateway.environment) "PRIMARY_BACKEND_URL" (list "primaryUrl" .Values.gateway.primaryUrl) "MAZEVAULT_GATEWAY_PRIMARY_URL" (list "primaryUrl" .Values.gateway.primaryUrl) -}}
{{- if ne .Values.gateway.role "primary" }}{{ $_ := set $said "MAZEVAULT_GATEWAY_ROLE" (list "role" .Values.gateway.role) }}{{ end -}}
{{- range $variable := .Values.env -}}
{{- with get $said $variable.name -}}
{{- if and (last .) $variable.value (ne (last .) (toString $variable.value)) -}}
{{- $problems = append $problems (printf "gateway.%s: is %s, and %s in env, which goes before it, is %v; keep one of the two" (first .) (last .) $variable.name $variable.value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (not .Values.gateway.environment) (not (include "mazevault.given" (dict "context" . "names" (list "MAZEVAULT_GATEWAY_ENVIRONMENT")))) -}}
{{- $problems = append $problems "gateway.environment: required with mode gateway; set it to the environment that the gateway works for, such as NPR or PRO" -}}
{{- end -}}
{{- if and (not .Values.gateway.primaryUrl) (not (include "mazevault.given" (dict "context" . "names" (list "PRIMARY_BACKEND_URL" "MAZEVAULT_GATEWAY_PRIMARY_URL")))) -}}
{{- $problems = append $problems "gateway.primaryUrl: required with mode gateway; set it to https://HOST:PORT of the primary's REST" -}}
{{- end -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "the values do not fit together:\n  %s" (join "\n  " $problems)) -}}
{{- end -}}
{{- end -}}
