/** What was asked and answered, counted with as little effort as possible: numbers that are read when somebody looks. */
export interface Traffic {
  /** Answers about certificates, kept ones and those for one request. */
  kept: number;
  signedForOne: number;
  notModified: number;
  malformedRequest: number;
  unauthorized: number;
  tryLater: number;
  internalError: number;
  /** Refused before it was read as OCSP: method, path, type, size. */
  refused: number;
  documents: number;
  /** Signatures made, in advance or for one request. */
  signatures: number;
  /** Of these, answers that are not given because lint found fault with them. */
  faulty: number;
}

export const newTraffic = (): Traffic => ({
  kept: 0,
  signedForOne: 0,
  notModified: 0,
  malformedRequest: 0,
  unauthorized: 0,
  tryLater: 0,
  internalError: 0,
  refused: 0,
  documents: 0,
  signatures: 0,
  faulty: 0,
});
