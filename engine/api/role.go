package api

import "fmt"

// Role is what somebody may do. Each includes the ones before it.
type Role int

const (
	RoleNone     Role = iota // nothing
	RoleViewer               // look
	RoleOperator             // order what the policy lets through, and undo it
	RoleAdmin                // pass rules of the policy too
)

// RoleNames lists the roles, from the least on.
func RoleNames() []string { return []string{"viewer", "operator", "admin"} }

// ParseRole reads the name of a role.
func ParseRole(name string) (Role, error) {
	for i, n := range RoleNames() {
		if n == name {
			return Role(i + 1), nil
		}
	}
	return RoleNone, fmt.Errorf("role %q: want viewer, operator or admin", name)
}

func (r Role) String() string {
	if r < RoleViewer || r > RoleAdmin {
		return "none"
	}
	return RoleNames()[r-1]
}
