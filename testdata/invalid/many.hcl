server "main" {
  address = "10.0.0.1"
}
host "h0" {
  mac = "x"
}
host "h1" {
  mac = "x"
}
host "h2" {
  mac = "x"
}
host "h3" {
  mac = "x"
}
host "h4" {
  mac = "x"
}
host "h5" {
  mac = "x"
}
host "h6" {
  mac = "x"
}
host "h7" {
  mac = "x"
}
host "h8" {
  mac = "x"
}
host "h9" {
  mac = "x"
}
host "h10" {
  mac = "x"
}
host "h11" {
  mac = "x"
}
host "h12" {
  mac = "x"
}
host "h13" {
  mac = "x"
}
host "h14" {
  mac = "x"
}
host "h15" {
  mac = "x"
}
host "h16" {
  mac = "x"
}
host "h17" {
  mac = "x"
}
host "h18" {
  mac = "x"
}
host "h19" {
  mac = "x"
}
host "h20" {
  mac = "x"
}
host "h21" {
  mac = "x"
}
host "h22" {
  mac = "x"
}
host "h23" {
  mac = "x"
}
host "h24" {
  mac = "x"
}
host "h25" {
  mac = "x"
}
host "h26" {
  mac = "x"
}
host "h27" {
  mac = "x"
}
host "h28" {
  mac = "x"
}
host "h29" {
  mac = "x"
}
host "h30" {
  mac = "x"
}
host "h31" {
  mac = "x"
}
host "h32" {
  mac = "x"
}
host "h33" {
  mac = "x"
}
host "h34" {
  mac = "x"
}
host "h35" {
  mac = "x"
}
host "h36" {
  mac = "x"
}
host "h37" {
  mac = "x"
}
host "h38" {
  mac = "x"
}
host "h39" {
  mac = "x"
}
host "h40" {
  mac = "x"
}
host "h41" {
  mac = "x"
}
host "h42" {
  mac = "x"
}
host "h43" {
  mac = "x"
}
host "h44" {
  mac = "x"
}
host "h45" {
  mac = "x"
}
host "h46" {
  mac = "x"
}
host "h47" {
  mac = "x"
}
host "h48" {
  mac = "x"
}
host "h49" {
  mac = "x"
}
host "h50" {
  mac = "x"
}
host "h51" {
  mac = "x"
}
host "h52" {
  mac = "x"
}
host "h53" {
  mac = "x"
}
host "h54" {
  mac = "x"
}
host "h55" {
  mac = "x"
}
host "h56" {
  mac = "x"
}
host "h57" {
  mac = "x"
}
host "h58" {
  mac = "x"
}
host "h59" {
  mac = "x"
}
host "h60" {
  mac = "x"
}
host "h61" {
  mac = "x"
}
host "h62" {
  mac = "x"
}
host "h63" {
  mac = "x"
}
host "h64" {
  mac = "x"
}
host "h65" {
  mac = "x"
}
host "h66" {
  mac = "x"
}
host "h67" {
  mac = "x"
}
host "h68" {
  mac = "x"
}
host "h69" {
  mac = "x"
}
host "h70" {
  mac = "x"
}
host "h71" {
  mac = "x"
}
host "h72" {
  mac = "x"
}
host "h73" {
  mac = "x"
}
host "h74" {
  mac = "x"
}
host "h75" {
  mac = "x"
}
host "h76" {
  mac = "x"
}
host "h77" {
  mac = "x"
}
host "h78" {
  mac = "x"
}
host "h79" {
  mac = "x"
}
host "h80" {
  mac = "x"
}
host "h81" {
  mac = "x"
}
host "h82" {
  mac = "x"
}
host "h83" {
  mac = "x"
}
host "h84" {
  mac = "x"
}
host "h85" {
  mac = "x"
}
host "h86" {
  mac = "x"
}
host "h87" {
  mac = "x"
}
host "h88" {
  mac = "x"
}
host "h89" {
  mac = "x"
}
host "h90" {
  mac = "x"
}
host "h91" {
  mac = "x"
}
host "h92" {
  mac = "x"
}
host "h93" {
  mac = "x"
}
host "h94" {
  mac = "x"
}
host "h95" {
  mac = "x"
}
host "h96" {
  mac = "x"
}
host "h97" {
  mac = "x"
}
host "h98" {
  mac = "x"
}
host "h99" {
  mac = "x"
}
host "h100" {
  mac = "x"
}
host "h101" {
  mac = "x"
}
host "h102" {
  mac = "x"
}
host "h103" {
  mac = "x"
}
host "h104" {
  mac = "x"
}
host "h105" {
  mac = "x"
}
host "h106" {
  mac = "x"
}
host "h107" {
  mac = "x"
}
host "h108" {
  mac = "x"
}
host "h109" {
  mac = "x"
}
host "h110" {
  mac = "x"
}
host "h111" {
  mac = "x"
}
host "h112" {
  mac = "x"
}
host "h113" {
  mac = "x"
}
host "h114" {
  mac = "x"
}
host "h115" {
  mac = "x"
}
host "h116" {
  mac = "x"
}
host "h117" {
  mac = "x"
}
host "h118" {
  mac = "x"
}
host "h119" {
  mac = "x"
}
