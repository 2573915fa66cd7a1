/**
 * Events that tell more than a change of Ready, each with what a person does about it. `action` is what was being done; the generated
 * reference prints this page.
 */
export const eventReasons = {
  DeliveryReleased: {
    type: "Normal",
    action: "Release",
    meaning: "A core Secret is no longer kept up to date. It stays: delete it by hand if nobody uses it.",
  },
  WorkloadsRestarted: {
    type: "Normal",
    action: "Restart",
    meaning: "What uses the core Secret is being restarted for its new version. Nothing is to be done.",
  },
  WorkloadsNotRestarted: {
    type: "Warning",
    action: "Restart",
    meaning:
      "A workload that should be restarted was not; the note says which and why. Correct the list, let the workload use the core Secret, or annotate it with mazevault.io/restart: allowed; restart it by hand meanwhile.",
  },
  RotationApplied: {
    type: "Normal",
    action: "Apply",
    meaning: "New values were applied where they are used, and are current. Nothing is to be done.",
  },
  RotationFailed: {
    type: "Warning",
    action: "Apply",
    meaning:
      "New values could not be applied, so the ones before stay. Correct what the note says; the annotation mazevault.io/rotate tries at once.",
  },
  FormerNotEnded: {
    type: "Warning",
    action: "Apply",
    meaning: "A role of former values still logs in, and nothing ends it any more. End it in the database by hand.",
  },
  ConflictDecided: {
    type: "Normal",
    action: "DecideConflict",
    meaning:
      "Both sides had changed an entry, and the rule's conflictPolicy has decided. The losing value stays as a version of the Secret: restore it if it was the right one.",
  },
} as const satisfies Readonly<
  Record<string, { readonly type: "Normal" | "Warning"; readonly action: string; readonly meaning: string }>
>;

export type EventReason = keyof typeof eventReasons;
