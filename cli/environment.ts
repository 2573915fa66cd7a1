/** What the command line takes from the environment: it knows no other variable. `mazevault --help` and the reference tell them. */
export const VARIABLES = {
  MAZEVAULT_SERVER: "where the installation is, unless --server says it",
  MAZEVAULT_CA_FILE: "file with the CA certificates for it in PEM, unless --ca-file says it",
  MAZEVAULT_TOKEN: "an API key or a token, which goes before a login",
  MAZEVAULT_CLI_CONFIG: "file in which login remembers what it got, and beside which reader keys are kept",
  MAZEVAULT_OPERATOR_NAMESPACE: "where the operator runs, unless --operator-namespace says it",
  XDG_CONFIG_HOME: "folder in which mazevault/login.json is that file otherwise, ~/.config unless set",
  XDG_CACHE_HOME: "folder of compiled code, which makes a start faster, ~/.cache unless set",
  HOME: "home of whoever runs it, where both of these are",
  NO_COLOR: "when set, nothing is printed in bold",
} as const;

export type Environment = { readonly [variable in keyof typeof VARIABLES]?: string | undefined };
