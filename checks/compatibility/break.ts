/** A change that takes something away from those who use the last release. */
export interface Break {
  /** Of what is concerned, for a person: `Secret.spec.entries[].key`. */
  readonly path: string;
  /** Goes on where the path ends: `was removed`. */
  readonly change: string;
  /** What to do instead. */
  readonly fix: string;
}

export const KEEP = "keep it, and say in its description what to use instead";
export const WIDEN = "accept what was accepted before";

/** As it stands in `released/accepted.yaml`. */
export const sentence = ({ path, change }: Break): string => `${path}: ${change}`;
