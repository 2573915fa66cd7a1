/** What a conversion says besides the objects that it gives: never a value. */

export const RESULTS = ["Step", "Remark", "NotConverted"] as const;
/**
 * Step: to be done by hand before MazeVault takes over, as the guides say when. Remark: converted, and different in a way
 * that somebody may want to know. NotConverted: the object or field has no equal here; the message says what to do.
 */
export type Result = (typeof RESULTS)[number];

/** Of a field that no schema has: nothing is dropped unseen. */
export const UNKNOWN = "the converter does not know this field; look whether it matters";

export interface Subject {
  readonly kind: string;
  readonly namespace?: string | undefined;
  readonly name: string;
}

export interface Finding extends Subject {
  /** Path in that object, such as `spec.data[1].remoteRef.version`. */
  readonly field: string;
  readonly result: Result;
  readonly message: string;
}

/** An object of MazeVault. */
export interface Converted {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec: object;
}

export interface Conversion {
  readonly objects: readonly Converted[];
  readonly findings: readonly Finding[];
}

/** What is found out about one object. */
export class Notes {
  readonly findings: Finding[] = [];
  readonly #subject: Subject;
  #blocked = false;

  constructor({ kind, namespace, name }: Subject) {
    this.#subject = { kind, ...(namespace !== undefined && { namespace }), name };
  }

  /** Without what was found the object would be another one: it is left out. */
  get blocked(): boolean {
    return this.#blocked;
  }

  step(field: string, message: string): void {
    this.#add("Step", field, message);
  }

  remark(field: string, message: string): void {
    this.#add("Remark", field, message);
  }

  /** The rest of the object is converted. */
  lost(field: string, message: string): void {
    this.#add("NotConverted", field, message);
  }

  /** The object is left out as a whole. */
  block(field: string, message: string): void {
    this.#blocked = true;
    this.#add("NotConverted", field, message);
  }

  #add(result: Result, field: string, message: string): void {
    this.findings.push({ ...this.#subject, field, result, message });
  }
}
