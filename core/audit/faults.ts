/** What a fault of the record means, and what to do about it; `docs/operations/audit.md` has more on each. */
import type { AuditFault, AuditVerdict } from "../ports/audit-log.ts";

export const auditFaults: Readonly<Record<AuditFault, string>> = {
  anchorMissed: "what a sink took, or was kept outside of the database, is not what stands in the chain",
  chainBroken: "the row is not linked to the one before it: rows were exchanged, moved, doubled or left out",
  checkpointDiffers: "the checkpoint was signed over another chain",
  checkpointForged: "the checkpoint does not match its signature, or its key was never handed over to",
  checkpointMissing: "a checkpoint before this one was removed or replaced",
  countersDiffer: "the rows below the checkpoint are not those that its writers had numbered",
  cutForged: "the statement that older rows were removed was not signed by the installation",
  headForged: "the head of the chain was written by somebody else",
  headOlder: "an older head of the chain was put back",
  keptDiffer: "the rows that stayed when older ones were removed are not all there, or not those that stayed",
  macDiffers: "the row was changed, or was not written by MazeVault",
  rowMissing: "rows are missing, from this one on",
};

const REMEDY =
  "keep a copy of the database as it is now, compare it with a sink or an export, and restore a backup of the time before";

/** The verdict in sentences, for a person. */
export function explainVerdict(verdict: AuditVerdict): readonly string[] {
  if (!verdict.ok) {
    const where = verdict.checkpoint === undefined ? "" : ` at checkpoint ${verdict.checkpoint}`;
    return [`audit row ${verdict.row}${where}: ${auditFaults[verdict.fault]} (${verdict.fault})`, REMEDY];
  }
  const { linked, unlinked, checkpoints, signedTo, anchoredTo, missingNumbers, removedTo } = verdict;
  return [
    `${linked - (removedTo ?? 0)} rows are whole and in order, ${unlinked} more are not linked yet`,
    ...(removedTo === undefined
      ? []
      : [
          `the record begins behind row ${removedTo}: what was older was removed when its time was over, and that is signed`,
        ]),
    `${checkpoints} checkpoints hold; rows up to ${signedTo} are signed`,
    anchoredTo === 0
      ? "no external anchor was given: that the newest rows were cut off together with their checkpoints cannot be excluded"
      : `an external anchor vouches for rows up to ${anchoredTo}; that later ones were cut off cannot be excluded`,
    ...(missingNumbers === 0
      ? []
      : [
          `${missingNumbers} numbers have no row: transactions that were rolled back leave such gaps, and so would rows that were deleted before they were linked`,
        ]),
  ];
}
