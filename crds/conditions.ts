/**
 * Condition types and reasons, each with what it tells a person. Adjectives or past participles for types, CamelCase
 * constants for reasons; the generated reference prints this page.
 */
export const conditionTypes = {
  Ready: "Everything that was asked for is in place. Computed from the other conditions.",
  Reconciling: "Work is under way or waits for something that can still come; present only while that is so.",
  Stalled: "Waiting cannot help: the manifest or something it refers to must change; present only while that is so.",
  KeysAvailable: "The project's key can be unwrapped.",
  Stored:
    "The current version is stored, with a value for every entry: encrypted in PostgreSQL, or in the project's Key Vault.",
  Delivered: "The core Secret holds the current version.",
  Rotated: "Generated entries get new values when the manifest or a person asks for it.",
  Reachable: "The Key Vault answers.",
  Authorized: "The Key Vault lets this identity in.",
  Affordable: "What looking at the Key Vault costs while nothing changes fits into its call budget.",
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
  Registered: "The gateway has registered with its token.",
  Connected: "Heartbeats of the gateway arrive.",
  Paired: "The two gateways of the environment are known in their roles, and act in turn.",
  Acting: "The gateway that is in charge may act, and its heartbeats arrive.",
  FailoverActive: "DR is active: the standby is in charge. While it is False the primary is, which is well.",
  Accepted: "The Failover is to be done.",
  Fenced: "Whatever the other gateway was let do before the Failover is over.",
  Completed: "The gateway that was asked for acts.",
  Named: "Names in Azure are as the Project's naming says, and can be used.",
  TargetReachable: "The target of the rule answers and lets us in.",
  LimitExceeded:
    "More would be deleted or changed at once than is allowed without a person; the message says what stands still and how to release it. Present only while that is so, and Synced is False then.",
} as const;
export type ConditionType = keyof typeof conditionTypes;

export const reasons = {
  // What is well
  Succeeded: "Everything is in place.",
  Available: "It can be used.",
  Suspended: "spec.suspend is true; nothing is done until it is removed.",
  NotRequested: "The manifest does not ask for this.",
  DryRun: "spec.dryRun is true; status.plan says what would be done.",
  Adopted:
    "A certificate of another CA was taken over as it stands; the message says whose it is and when the issuer replaces it.",
  // What can still come
  Applying: "What uses the secret is being told of the new values; they become current when it has taken them.",
  ConfirmingConsumption:
    "The new values are current; what uses them is restarted, and the message says what is not ready yet. The former ones count until then.",
  Overlapping: "Everything uses the new values; the former ones count until the overlap is over.",
  Progressing: "Work is under way.",
  NotAdopted:
    "The database was restored, and knows another object of this name; the message says how to have this one take its place.",
  ProjectNotFound: "No Project of that name exists yet; apply it.",
  NamespaceNotOnboarded: "The operator has no access to this namespace yet; the Project's controller is granting it.",
  SourceNotFound: "The core Secret that a value is taken from does not exist yet; create it.",
  ValueMissing: "An external entry was never written; the message says which, and how to write it.",
  SourceKeyNotFound:
    "The core Secret that a value is taken from has no such key; add the key or correct the reference.",
  KeyVaultNotFound: "No KeyVault of that name exists in this namespace yet; apply it.",
  TargetNamespaceNotFound: "A namespace to copy into, or to take from, does not exist yet; create it.",
  GatewayNotFound: "No Gateway of that name exists yet; apply it.",
  KeyVaultNotReady: "The KeyVault that the rule refers to is not ready; its own conditions say why.",
  SecretNotStored: "A secret that the rule covers has no complete version yet; its own conditions say why.",
  IssuerNotFound: "No issuer of that kind and name exists yet; apply it.",
  IssuerNotReady: "The issuer has no valid certificate of its own yet; its own conditions say why.",
  ApprovalPending:
    "The issuer wants a person's approval: somebody who may has to set the condition Approved or Denied.",
  WaitingForCertificate:
    "Another CA must sign status.certificateSigningRequest; put what it signed into spec.ca.external.certificate.",
  AwaitingRegistration: "The gateway has not registered yet; the message says where its token is and how to use it.",
  HeartbeatMissing:
    "The gateway has registered, and three heartbeats or more have not come; look at its log, and whether it reaches the primary.",
  PrimaryActive: "The gateway with role primary is in charge.",
  StandbyActive:
    "The gateway with role dr-standby is in charge; `mazevault failover failback ENVIRONMENT` goes back to the primary.",
  Fencing:
    "The gateway that acted before is granted nothing any more; the message says by when what it was granted is over, and another one acts from then on.",
  GatewayEnvironmentNotFound:
    "No GatewayEnvironment of that name exists, or its gateways are not paired yet; apply it.",
  QueueNotEmpty: "Writes wait at the standby for the primary; it goes on when a heartbeat tells that none does.",
  GatewayNotHeardOf:
    "The gateway that is to act has not registered, was revoked, or its heartbeats are missing; see its Gateway.",
  DatabaseUnavailable: "PostgreSQL does not answer; work resumes by itself.",
  FleetNotReady:
    "The leader has not made the fleet's CA yet, or does not sign what a gateway or a replica asks for; it resumes by itself when there is a leader.",
  FleetStateStale:
    "Which gateways are admitted could not be read for more than 5 seconds, so that none is; it resumes by itself when PostgreSQL answers.",
  SignatureAwaited:
    "The primary has taken a request of this gateway and not signed it yet; it is asked again, and goes on where it was.",
  RegistrationOpen:
    "A gateway has registered anew with another key and has not confirmed that yet; until then, or the end of the token, no other certificate is signed for it.",
  ApiServerUnavailable: "The API server does not answer or refuses; work resumes by itself.",
  VaultUnreachable: "The Key Vault does not answer; it is tried again with growing pauses.",
  VaultThrottled: "The Key Vault asked us to slow down; work resumes when it said so.",
  BudgetExhausted: "The call budget of the vault is used up for now; the rest follows.",
  SinkUnreachable:
    "The receiver of the audit record does not answer, or the file cannot be written; it is caught up on by itself afterwards.",
  SinkRefused:
    "The receiver of the audit record refuses it; the message tells its answer. Correct URL or credentials; it is tried again with growing pauses.",
  ForecastExceedsBudget:
    "Looking at the vault alone takes more calls than its budget has, so looks come later than their interval says; raise spec.interval of the rules or spec.budget.",
  IdentityUnavailable: "No token could be had for the vault; the message tells what Entra ID said.",
  KeyUnavailable: "The root key cannot unwrap the project's key; see the operator's key configuration.",
  FormerNotEnded:
    "The role that the values before log in as could not be ended; the message says why. It is tried again, and nothing is rotated before.",
  // What a person must change
  NamespaceNotAdmitted: "The Project does not admit this namespace for this environment; see its spec.namespaces.",
  EnvironmentNotDeclared: "The Project has no environment of that name; see its spec.environments.",
  VaultNotAllowed: "The operator's own identity may not be used for this vault; see the Project's spec.keyVaults.",
  VaultHostNotAllowed: "The vault's host is not on the installation's allow-list.",
  KeyVaultOfOtherProject: "The KeyVault that the rule refers to belongs to another project; refer to one of the same.",
  StoredValueMissing:
    "The Key Vault that has the values of the project lacks one; the message says which, and whether it comes back by itself.",
  StorageDiffers:
    "The values of the Secret are elsewhere than where its Project wants them; the message says what to do.",
  TemplateInvalid: "A template does not parse, names an unknown key or filter, or is too expensive.",
  TemplateCycle: "Templates refer to each other in a circle.",
  ApplyFailed:
    "New values could not be applied, so the ones before stay; the message says why, and when it is tried again. The annotation mazevault.io/rotate tries at once.",
  RotationInvalid:
    "What spec.rotation says is never due, is in no time zone, or cannot be done where the values are; the message names the field.",
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
  TargetIsStorage:
    "The rule would synchronise with the Key Vault that has the values of the project (storage Orchestrator); remove the rule, or refer to another vault.",
  TargetMissing: "The target has no such entry, so there is nothing to take over; make it there, or add a mapping.",
  ChangedOnBothSides:
    "An entry was changed here and in the vault; set spec.resolution of its SyncConflict to KeepPlatform or KeepTarget.",
  RulesOverlap: "Another SyncRule covers this too, and both would write in turn; leave it out of one of them.",
  TooManyDeletions: "More entries would be deleted at once than spec.limits.deletions allows; release the plan.",
  TooManyChanges: "More entries would be changed at once than spec.limits.changes allows; release the plan.",
  ProtectedEnvironment:
    "The Project protects this environment, so so many deletions or changes at once need a release of the plan.",
  ChangedInTarget:
    "The entry of something that was deleted here was changed in the vault, so it is not deleted; delete it there.",
  VaultReplaced: "The vault does not have what was written to it, so nothing is deleted there.",
  RetentionTooShort: "A value that loses a conflict could not be kept; set retention.versions to 2 or more.",
  VaultTimeUnknown:
    "The vault's answers carry no Date, by which NewestWins compares; let what is on the way pass that header, or set another conflictPolicy.",
  PulledByOther: "Another SyncRule takes this entry over already; leave it out of one of them.",
  TargetIsOwnNamespace:
    "A rule is for other namespaces; in its own use spec.deliver of the Secret, or secretRef of an entry.",
  TargetKeyUnknown: "The Secret has no such key; correct target.kubernetes.keys, or leave the Secret out of the rule.",
  TargetDisabled: "The current version of the vault entry was disabled by somebody; enable or delete it.",
  NameDiffers:
    "The vault is not named as its Project says. It is used all the same; spec.naming.required of the Project refuses it.",
  NameRefused:
    "The vault is not named as its Project requires, so nothing is read from it or written to it; the message says which name is expected.",
  EnvironmentNotNamed:
    "Nothing says whether an environment is named like production; add it to spec.naming.environments.",
  NameInvalid: "A name that spec.naming gives would not be accepted by Azure; the message says which, and why.",
  NameCollision: "A name that spec.naming gives is given to something else too; the message says to what.",
  TargetNameInvalid:
    "The name that results is not valid in the target; add a mapping, or choose another pattern for the names.",
  TargetNameCollision:
    "Two would get the same name in the target; add a mapping, or choose another pattern for the names.",
  PlaceDiffers:
    "The gateway is known under this name with another environment or role than spec says; the message names both and what to do.",
  EnvironmentTaken: "An older GatewayEnvironment is for the same environment, and counts; delete one of the two.",
  GatewayUnsuitable:
    "A Gateway that the environment refers to is of another environment or role; the message names both and what to do.",
  Superseded: "A newer Failover of the same environment came before this one was begun; nothing was changed by it.",
  RequestExpired: "It could not be begun within ten minutes, so it is not done any more; create another Failover.",
  CredentialNotFound: "The core Secret or ServiceAccount with the credentials does not exist or lacks the key.",
  CredentialInvalid: "The credentials of the vault are not accepted or not well formed.",
  AccessDenied: "The Key Vault refuses this identity; grant it Key Vault Secrets Officer.",
  SinkNotAllowed: "The installation's configuration does not allow such an audit sink; see audit.fileDirectory.",
  ValueTooLarge: "A value is larger than the target accepts.",
  WorkloadNotFound: "A workload to restart does not exist.",
  WorkloadNotOptedIn: "A workload to restart neither uses the core Secret nor carries mazevault.io/restart: allowed.",
  NamespaceNotServed:
    "No Project admits this namespace, so the operator has no access to it; see spec.namespaces there.",
  IssuerNotAllowed:
    "The issuer does not admit this namespace or this gateway's environment; see its spec.namespaces, or at the primary its spec.gatewayEnvironments. Only a ClusterIssuer can have the primary sign.",
  NotAGateway: "Only a gateway can have its primary sign; use an issuer with spec.ca, or run in mode gateway.",
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
  RequestIdTaken:
    "At the primary the id of a gateway's request stands for something else, as after the gateway has registered for another environment; the gateway takes a new one by itself.",
  RequestWithdrawn:
    "spec.revocation was set before the request was signed, so it is not; take it out to have it signed.",
  RequestDenied: "A person denied this request; create a new CertificateRequest if that is to be decided again.",
  SerialNumberUnknown:
    "A serial number to revoke was not issued to this object, or its primary did not sign it for this gateway.",
  LintFailed: "The certificate that was made has a fault and was not handed out; this is a defect, please report it.",
  TamperDetected:
    "What is stored does not match its authentication code, or is older than the record says; see the runbook.",
  PrimaryUnreachable:
    "A gateway's primary does not answer, or cannot serve at the moment; the message says what to check.",
  PrimaryUntrusted:
    "What answers at gateway.primaryUrl is not the primary that the bootstrap token names; check the URL, or make a new token if the primary was installed anew.",
  PrimaryAnswerInvalid:
    "The primary answered a gateway with what this version does not understand; bring both to versions that belong together.",
  BootstrapTokenMissing:
    "A gateway is not registered and has no bootstrap token; make one with `mazevault gateways bootstrap NAME` at the primary.",
  BootstrapTokenRefused:
    "The primary does not take the gateway's bootstrap token; make a new one with `mazevault gateways bootstrap NAME`.",
  GatewayPlaceDiffers:
    "A gateway's environment or role is another one at its primary; correct the settings here, or the Gateway there.",
  TargetUnavailableHere:
    "An installation in mode gateway has no gateways of its own; apply the rule at the primary, or choose another target.",
  GatewayRevoked:
    "The primary serves this gateway no more; if it is to come back, make a new token with `mazevault gateways bootstrap NAME`.",
  CertificateUnknown:
    "The primary knows nothing of the gateway's certificate, as after the restore of an older backup; the gateway goes on trying, and takes a new token of `mazevault gateways bootstrap NAME`.",
  GatewayCertificateEnded:
    "A gateway's certificate ended before it was renewed; make a new token with `mazevault gateways bootstrap NAME`.",
  GatewayCertificateRefused:
    "The primary ended the session when it saw the gateway's certificate; compare the clocks, or make a new token with `mazevault gateways bootstrap NAME`.",
  ReplicaNotReady:
    "The primary cannot tell yet what gateways may have, as right after a start; gateways keep what they have and ask again.",
  OfflineLimitReached:
    "The gateway has not heard from its primary for longer than gateway.offlineLimit, so it serves nothing of the primary's any more; it resumes by itself when the primary answers.",
  SecretNotReplicated:
    "The gateway knows of the secret and has no values of it yet, since the first copy is under way or the primary could not open them; it is tried again.",
  CircuitOpen: "The primary did not answer the gateway several times in a row, so it is only tried from time to time.",
  GatewayUnavailable:
    "No gateway that acts for the environment took the task in time, so it was not done; see the health of the gateways. It is tried again.",
  GatewayEnvironmentDiffers:
    "The gateway works for another environment than the one whose values are concerned, so nothing goes through it; name a gateway of the same, or correct environments[].gatewayEnvironment of the Project.",
  GatewayTaskUnknown: "The gateway is too old for what the primary asks of it; bring it to the primary's version.",
  GatewayFenced: "Another gateway of the environment is in charge now, so this one does not act any more.",
  Failed: "It failed for another reason; the message says which, and it is tried again with growing pauses.",
} as const;
export type Reason = keyof typeof reasons;
