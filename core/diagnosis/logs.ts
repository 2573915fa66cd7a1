/** Commands that show what programs log. */

/**
 * Pods of the operator, or of the gateway that a program is instead, by the labels that the chart gives them: their names begin with the name
 * of the release, which nobody here knows.
 */
export const OPERATOR_PODS = "app.kubernetes.io/name=mazevault,app.kubernetes.io/component in (operator,gateway)";
/** Pods of the responder, which may be beside REST. */
export const RESPONDER_PODS = "app.kubernetes.io/name=mazevault,app.kubernetes.io/component in (ocsp,rest)";

/** @param home namespace of the installation */
export const operatorLog = (home: string): string => logs(home, OPERATOR_PODS);
export const responderLog = (home: string): string => logs(home, RESPONDER_PODS);

const logs = (home: string, pods: string): string =>
  `kubectl -n ${home} logs -l '${pods}' --all-containers --prefix --tail=200`;
