/** How the schema of the database stands to the program that has come to it. */

export interface SchemaState {
  /** Names of the migrations that were run, in their order. */
  readonly applied: readonly string[];
  /** Which of them a program must know at least; undefined before that was kept. */
  readonly least: string | undefined;
}

/** Migrations that the program does not know: a newer one has run them. */
export const newerMigrations = (known: readonly string[], { applied }: SchemaState): readonly string[] =>
  applied.filter((name) => !known.includes(name));

/** Whether a program that knows these can work on a schema that has newer ones too. */
export const worksWithNewer = (known: readonly string[], { applied, least }: SchemaState): boolean =>
  known.every((name) => applied.includes(name)) && least !== undefined && known.includes(least);
