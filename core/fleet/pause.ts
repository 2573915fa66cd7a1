/**
 * How long to wait after so many failures in a row, in milliseconds. Drawn evenly from nothing up: of hundreds that lost the
 * primary at once each comes back at a time of its own.
 */
export const pauseAfter = (failures: number, firstMs: number, longestMs: number): number =>
  Math.min(longestMs, firstMs * 2 ** (failures - 1)) * Math.random();
