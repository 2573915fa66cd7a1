/**
 * Condition types and reasons, each with what it tells a person. Adjectives or past participles for types, CamelCase
 * constants for reasons; the generated reference prints this page.
 */
export const conditionTypes = {
  Ready: "Everything that was asked for is in place. Computed from the other conditions.",
  Reconciling: "Work is under way or waits for something that can still come; present only while that is so.",
  Stalled: "Waiting cannot help: the manifest or something it refers to must change; present only while that is so.",
  KeysAvailable: "The project's key can be unwrapped.",
  Stored: "The current version stands encrypted in PostgreSQL, with a value for every entry.",
  Delivered: "The core Secret holds the current version.",
  Rotated: "Generated entries get new values when the manifest or a person asks for it.",
  Reachable: "The Key Vault answers.",
  Authorized: "The Key Vault lets this identity in.",
  Synced: "Every entry that the rule covers is in the target with its current value.",
  Delivering: "The receiver of the audit sink takes the record; what is there is handed over at once.",
  Issued: "There is a certificate as the manifest wants it, and it is valid.",
  Approved:
    "A person lets this request be signed, by status True. Set by people, through the status subresource; MazeVault only reads it.",
  Denied:
    "A person refuses this request, by status True, which counts more than Approved. Set by people; MazeVault only reads it.",
  Published: "Certificates of this issuer say where their revocation can be checked.",
  Linted: "MazeVault's own check of the certificate, made before it left, found no fault.",
  Revoked: "What the manifest wants revoked is revoked, or on hold.",
  Effective: "Every rule of the policy counts.",
  Resolved: "Both sides have the same value again; of a SyncConflict.",
  TargetReachable: "The target of the rule answers and lets us in.",
} as const;
export type ConditionType = keyof typeof conditionTypes;

export const reasons = {
  // What is well
  Succeeded: "Everything is in place.",
  Available: "It can be used.",
  Suspended: "spec.suspend is true; nothing is done until it is removed.",
  NotRequested: "The manifest does not ask for this.",
  Adopted:
    "A certificate of another CA was taken over as it stands; the message says whose it is and when the issuer replaces it.",
  // What can still come
  Progressing: "Work is under way.",
  ProjectNotFound: "No Project of that name exists yet; apply it.",
  NamespaceNotOnboarded: "The operator has no access to this namespace yet; the Project's controller is granting it.",
  SourceNotFound: "The core Secret that a value is taken from does not exist yet; create it.",
  ValueMissing: "An external entry was never written; the message says which, and how to write it.",
  SourceKeyNotFound:
    "The core Secret that a value is taken from has no such key; add the key or correct the reference.",
  KeyVaultNotFound: "No KeyVault of that name exists in this namespace yet; apply it.",
  KeyVaultNotReady: "The KeyVault that the rule refers to is not ready; its own conditions say why.",
  SecretNotStored: "A secret that the rule covers has no complete version yet; its own conditions say why.",
  IssuerNotFound: "No issuer of that kind and name exists yet; apply it.",
  IssuerNotReady: "The issuer has no valid certificate of its own yet; its own conditions say why.",
  ApprovalPending:
    "The issuer wants a person's approval: somebody who may has to set the condition Approved or Denied.",
  WaitingForCertificate:
    "Another CA must sign status.certificateSigningRequest; put what it signed into spec.ca.external.certificate.",
  DatabaseUnavailable: "PostgreSQL does not answer; work resumes by itself.",
  ApiServerUnavailable: "The API server does not answer or refuses; work resumes by itself.",
  VaultUnreachable: "The Key Vault does not answer; it is tried again with growing pauses.",
  VaultThrottled: "The Key Vault asked us to slow down; work resumes when it said so.",
  BudgetExhausted: "The call budget of the vault is used up for now; the rest follows.",
  SinkUnreachable:
    "The receiver of the audit record does not answer, or the file cannot be written; it is caught up on by itself afterwards.",
  SinkRefused:
    "The receiver of the audit record refuses it; the message tells its answer. Correct URL or credentials; it is tried again with growing pauses.",
  IdentityUnavailable: "No token could be had for the vault; the message tells what Entra ID said.",
  KeyUnavailable: "The root key cannot unwrap the project's key; see the operator's key configuration.",
  // What a person must change
  NamespaceNotAdmitted: "The Project does not admit this namespace for this environment; see its spec.namespaces.",
  EnvironmentNotDeclared: "The Project has no environment of that name; see its spec.environments.",
  VaultNotAllowed: "The operator's own identity may not be used for this vault; see the Project's spec.keyVaults.",
  VaultHostNotAllowed: "The vault's host is not on the installation's allow-list.",
  KeyVaultOfOtherProject: "The KeyVault that the rule refers to belongs to another project; refer to one of the same.",
  TemplateInvalid: "A template does not parse, names an unknown key or filter, or is too expensive.",
  TemplateCycle: "Templates refer to each other in a circle.",
  RotationInvalid: "What spec.rotation says is never due, or is in no time zone; the message names the field.",
  ValueInvalid: "A value does not have the form that its use needs.",
  SealedValueInvalid:
    "A sealed value does not open here: it was sealed for another place or key, or was damaged. Seal it again.",
  EndToEndProtected:
    "The values are sealed for their readers, so MazeVault cannot synchronise them; leave the Secret out of the rule.",
  SourceIsOwnTarget: "An entry refers to the core Secret that this object delivers.",
  TargetNotOwned: "Something of that name exists and is not ours; set adopt, or choose another name.",
  TargetDiffers:
    "It exists with other data, and the message says what of it cannot be taken over; set overwrite with adopt, or choose another name.",
  TargetTypeDiffers:
    "The core Secret exists with another type, which Kubernetes does not let change; deliver to another name.",
  TargetMissing: "The vault has no such entry, so there is nothing to take over; make it there, or add a mapping.",
  ChangedOnBothSides:
    "An entry was changed here and in the vault; set spec.resolution of its SyncConflict to KeepPlatform or KeepTarget.",
  RulesOverlap: "Another SyncRule covers this entry too, and both would write in turn; leave it out of one of them.",
  RetentionTooShort: "A value that loses a conflict could not be kept; set retention.versions to 2 or more.",
  PulledByOther: "Another SyncRule takes this entry over already; leave it out of one of them.",
  TargetDisabled: "The current version of the vault entry was disabled by somebody; enable or delete it.",
  TargetNameInvalid: "The name that results for the vault entry is not valid there; add a mapping.",
  TargetNameCollision: "Two entries would get the same name in the vault; add a mapping.",
  CredentialNotFound: "The core Secret or ServiceAccount with the credentials does not exist or lacks the key.",
  CredentialInvalid: "The credentials of the vault are not accepted or not well formed.",
  AccessDenied: "The Key Vault refuses this identity; grant it Key Vault Secrets Officer.",
  SinkNotAllowed: "The installation's configuration does not allow such an audit sink; see audit.fileDirectory.",
  ValueTooLarge: "A value is larger than the target accepts.",
  WorkloadNotFound: "A workload to restart does not exist.",
  WorkloadNotOptedIn: "A workload to restart neither uses the core Secret nor carries mazevault.io/restart: allowed.",
  NamespaceNotServed:
    "No Project admits this namespace, so the operator has no access to it; see spec.namespaces there.",
  IssuerNotAllowed: "The issuer does not admit this namespace; see its spec.namespaces.",
  IssuerExpired:
    "The issuer's own certificate has ended; renew it if it was signed elsewhere, else create an issuer under another name and refer to that.",
  AuthorityDiffers:
    "A CA of this name was made before with another subject or key; apply the issuer as it was, or choose another name.",
  CertificateRefused:
    "The certificate that was signed elsewhere cannot be that of this CA; the message says why and what to do.",
  SubordinateNotAllowed: "The issuer above does not admit this CA; see its spec.policy.allowSubordinates.",
  PolicyViolated: "The issuer may not sign this; the message names the field and what its spec.policy allows.",
  SubjectInvalid: "A subject or name cannot be encoded in a certificate; the message names the field.",
  RequestInvalid:
    "The signing request itself cannot be signed; the message says what is wrong with it. Create a new CertificateRequest.",
  RequestWithdrawn:
    "spec.revocation was set before the request was signed, so it is not; take it out to have it signed.",
  RequestDenied: "A person denied this request; create a new CertificateRequest if that is to be decided again.",
  SerialNumberUnknown: "A serial number to revoke was not issued to this object.",
  LintFailed: "The certificate that was made has a fault and was not handed out; this is a defect, please report it.",
  TamperDetected:
    "What is stored does not match its authentication code, or is older than the record says; see the runbook.",
  Failed: "It failed for another reason; the message says which, and it is tried again with growing pauses.",
} as const;
export type Reason = keyof typeof reasons;
