/** Names by which the parts of an installation know each other. */
export const SYSTEM_NAMESPACE = "mazevault-system";
export const OPERATOR_ACCOUNT = "mazevault-operator";
/** Of REST where it is a program of its own. */
export const REST_ACCOUNT = "mazevault-rest";

/** The ClusterRole with everything that the operator may do inside one onboarded namespace. */
export const NAMESPACE_ROLE = "mazevault-namespace";
/** The same for REST as a program of its own. */
export const REST_NAMESPACE_ROLE = "mazevault-rest-namespace";

/** The RoleBinding to NAMESPACE_ROLE that onboards a namespace. The operator may touch none of another name, but for REST's. */
export const NAMESPACE_BINDING = "mazevault";
/** The RoleBinding to REST_NAMESPACE_ROLE that stands beside it. */
export const REST_NAMESPACE_BINDING = "mazevault-rest";
/** The core Secret with the password of the first admin, in the installation's namespace. */
export const FIRST_ADMIN_SECRET = "mazevault-first-admin";

/** Annotation of objects that were made through REST, where it says `rest`: what stands in Git would be changed back. */
export const MADE_BY = "mazevault.io/made-by";
