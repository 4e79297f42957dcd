package engine

import "github.com/dlreconcile/dlreconcile/engine/store"

// Ordered writes into the audit log that an order which is not the engine's to carry
// out was carried out, or failed: trigger is store.TriggerReset or TriggerPromote.
func (e *Engine) Ordered(trigger string, by store.Actor, hosts []string, message string, failed error) {
	out := Outcome{Generation: e.Generation()}
	if failed != nil {
		out.Failure = &Failure{Reason: ReasonMachine, Message: failed.Error()}
	}
	e.auditOrder(order{trigger: trigger, by: by, message: message, hosts: hosts}, out)
}
