{{/* ServiceAccount of the operator, and of a gateway. */}}
{{- define "mazevault.operatorAccount" -}}
{{ .Values.serviceAccount.name | default "mazevault-operator" }}
{{- end }}

{{/* ServiceAccount of REST, which is a program of its own at a primary. */}}
{{- define "mazevault.restAccount" -}}
{{ .Values.rest.serviceAccount.name | default "mazevault-rest" }}
{{- end }}

{{/* What the settings of operator, REST and gateway say of rights: YAML, to be merged into them. */}}
{{- define "mazevault.rightsSettings" -}}
kubernetes:
  namespace: {{ .Release.Namespace }}
  serviceAccount: {{ include "mazevault.operatorAccount" . }}
  {{- if eq .Values.mode "primary" }}
  restServiceAccount: {{ include "mazevault.restAccount" . }}
  {{- end }}
controllers:
  onboardNamespaces: {{ .Values.rbac.onboardNamespaces }}
{{- end }}

{{/*
Programs with an account of their own, as JSON: component, account, the values of the account, what it may do (see files/rights.yaml),
and what it is called in namespaces that it is let into. A gateway serves REST itself.
*/}}
{{- define "mazevault.accounts" -}}
{{- $rights := .Files.Get "files/rights.yaml" | fromYaml -}}
{{- $operator := dict "component" "operator" "account" (include "mazevault.operatorAccount" .) "values" .Values.serviceAccount "rights" (list $rights.operator.primary) "binding" "mazevault" "namespaceRole" "mazevault-namespace" "onboards" .Values.rbac.onboardNamespaces -}}
{{- $rest := dict "component" "rest" "account" (include "mazevault.restAccount" .) "values" .Values.rest.serviceAccount "rights" (list $rights.rest.primary) "binding" "mazevault-rest" "namespaceRole" "mazevault-rest-namespace" "onboards" false -}}
{{- $gateway := merge (dict "component" "gateway" "rights" (list $rights.operator.gateway $rights.rest.gateway)) $operator -}}
{{- ternary (list $operator $rest) (list $gateway) (eq .Values.mode "primary") | toJson -}}
{{- end }}
